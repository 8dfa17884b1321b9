//! Compiles what the crate has in C++, against the headers of libtorch.

#[path = "../build.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=native");
    let Ok(root) = std::env::var("LIBTORCH") else { return };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(format!("{root}/include"))
        // Inner loops, worth their optimisation in every profile; sums in any order, as the processor adds several at once.
        .opt_level(3)
        .flag("-fopenmp")
        .flag("-fassociative-math")
        .flag("-fno-signed-zeros")
        .flag("-fno-trapping-math")
        .files(["packed_linear", "attention", "rms_norm", "memory"].map(|file| format!("native/{file}.cpp")))
        .compile("tidemark_native");
}
