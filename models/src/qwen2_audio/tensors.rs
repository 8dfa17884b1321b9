//! Every tensor that a checkpoint of given dimensions has: name and shape.

use super::config::Config;

/// A tensor that a checkpoint has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Its name in Hugging Face's published files.
    pub(crate) name: String,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// It may be left out: a tied `lm_head`.
    pub(crate) optional: bool,
}

/// The tensors of a checkpoint, by the names of the published files.
pub(crate) fn expected(config: &Config) -> Vec<Expected> {
    let mut list = List(Vec::new());
    audio_tower(&mut list, config);
    let (d, hidden) = (config.audio_config.d_model, config.text_config.hidden_size);
    list.linear("multi_modal_projector.linear", hidden, d);
    language_model(&mut list, config);
    list.0
}

struct List(Vec<Expected>);

impl List {
    fn add(&mut self, name: String, shape: &[usize]) {
        self.0.push(Expected { name, shape: shape.to_vec(), optional: false });
    }

    fn linear(&mut self, name: &str, out: usize, input: usize) {
        self.add(format!("{name}.weight"), &[out, input]);
        self.add(format!("{name}.bias"), &[out]);
    }

    fn layer_norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }
}

fn audio_tower(list: &mut List, config: &Config) {
    let audio = &config.audio_config;
    let (d, ffn) = (audio.d_model, audio.encoder_ffn_dim);
    for (name, channels) in [("conv1", audio.num_mel_bins), ("conv2", d)] {
        list.add(format!("audio_tower.{name}.weight"), &[d, channels, 3]);
        list.add(format!("audio_tower.{name}.bias"), &[d]);
    }
    list.add("audio_tower.embed_positions.weight".into(), &[audio.max_source_positions, d]);
    for layer in (0..audio.encoder_layers).map(|n| format!("audio_tower.layers.{n}")) {
        list.layer_norm(&format!("{layer}.self_attn_layer_norm"), d);
        for part in ["q_proj", "v_proj", "out_proj"] {
            list.linear(&format!("{layer}.self_attn.{part}"), d, d);
        }
        list.add(format!("{layer}.self_attn.k_proj.weight"), &[d, d]);
        list.layer_norm(&format!("{layer}.final_layer_norm"), d);
        list.linear(&format!("{layer}.fc1"), ffn, d);
        list.linear(&format!("{layer}.fc2"), d, ffn);
    }
    list.layer_norm("audio_tower.layer_norm", d);
}

fn language_model(list: &mut List, config: &Config) {
    let text = &config.text_config;
    let (hidden, ffn, vocab) = (text.hidden_size, text.intermediate_size, text.vocab_size);
    let queries = text.num_attention_heads * text.head_dim();
    let keys = text.num_key_value_heads() * text.head_dim();
    list.add("language_model.model.embed_tokens.weight".into(), &[vocab, hidden]);
    for layer in (0..text.num_hidden_layers).map(|n| format!("language_model.model.layers.{n}")) {
        list.add(format!("{layer}.input_layernorm.weight"), &[hidden]);
        for (part, out) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
            list.linear(&format!("{layer}.self_attn.{part}"), out, hidden);
        }
        list.add(format!("{layer}.self_attn.o_proj.weight"), &[hidden, queries]);
        list.add(format!("{layer}.post_attention_layernorm.weight"), &[hidden]);
        list.add(format!("{layer}.mlp.gate_proj.weight"), &[ffn, hidden]);
        list.add(format!("{layer}.mlp.up_proj.weight"), &[ffn, hidden]);
        list.add(format!("{layer}.mlp.down_proj.weight"), &[hidden, ffn]);
    }
    list.add("language_model.model.norm.weight".into(), &[hidden]);
    let (name, shape) = ("language_model.lm_head.weight".into(), vec![vocab, hidden]);
    list.0.push(Expected { name, shape, optional: config.tie_word_embeddings() });
}
