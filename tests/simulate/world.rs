//! One run: a worker stepped by hand between a simulated source, store, model and fallback.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use models::queue::DeadlineQueue;
use operators::bridge::{inlet, link};
use operators::{Answer, Arm, Arrival, Clock, Experiment, LaneRules, RetryPolicy, Ticket, Unit};
use records::{Annotation, Branch, Confidence, ErrorType, Fault, Lane, MicroUsd, Mode, Status, Tier, UtcMicros};
use tidemark::process::{Rules, Seams, process};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::worker::Worker;

use crate::clock::SimulatedClock;
use crate::plan::{Fate, Plan};
use crate::process::{Event, Line, Permit, Process};
use crate::store::Durable;
use crate::summary::{Bug, Summary};

pub(crate) struct World {
    plan: Plan,
    bug: Option<Bug>,
    clock: Rc<SimulatedClock>,
    durable: Durable,
    numbers: u64,
    summary: Summary,
}

const LEASE_US: u64 = 3_000_000;
const MAX_ATTEMPTS: u32 = 3;
const MODEL: &str = "m";

impl World {
    pub(crate) fn new(plan: Plan, bug: Option<Bug>) -> Self {
        let mut durable = Durable::default();
        for number in 0..plan.uploads as u64 {
            let high = plan.chance(0.3);
            let (lane, tier) = if high { (Lane::High, "enterprise") } else { (Lane::Low, "free") };
            let payload = if plan.chance(0.05) {
                format!(r#"{{"upload_id":"u{number}","tier":"gold"}}"#)
            } else {
                format!(
                    r#"{{"upload_id":"u{number}","customer_id":"c{}","tier":"{tier}","audio_uri":"/a"}}"#,
                    number % 3
                )
            };
            durable.enqueue(number, payload, lane);
        }
        let summary = Summary { uploads: plan.uploads, ..Summary::default() };
        Self { plan, bug, clock: Rc::new(SimulatedClock::new()), durable, numbers: 0, summary }
    }

    /// Runs until every message is acknowledged, then checks what is left behind.
    pub(crate) fn run(mut self) -> Result<Summary, String> {
        let mut process = self.start();
        let mut steps = 0;
        while !self.durable.is_drained() {
            steps += 1;
            if steps > 200_000 {
                return Err("the run does not end: an upload is stuck".to_string());
            }
            if self.plan.crashes() {
                self.summary.crashes += 1;
                process = self.start();
            }
            self.deliver(&mut process)?;
            for _ in 0..=self.plan.below(3) {
                process.worker.step();
            }
            self.take_requests(&mut process)?;
            self.serve_primary(&mut process)?;
            self.acknowledge(&mut process)?;
            if let Some(id) = &self.durable.doubled {
                return Err(format!("{id} has two outcomes"));
            }
            self.check_frontier(&process)?;
            self.pass_time(&mut process);
        }
        self.check_end()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn start(&mut self) -> Process {
        let capacity =
            if self.bug == Some(Bug::NoPermits) { 10_000 } else { self.plan.high_limit + self.plan.low_limit };
        let (arrivals, arrivals_inlet) = inlet(capacity);
        let (admissions_link, admissions) = link(capacity);
        let (primary_link, primary) = link(capacity);
        let (fallback_link, fallback) = link(capacity);
        let (outcomes_link, outcomes) = link(capacity);
        let (acknowledge, acknowledgements) = sync_channel(capacity);
        let seams = Seams {
            arrivals: arrivals_inlet,
            admissions: admissions_link,
            primary: primary_link,
            fallback: self.plan.has_fallback.then_some(fallback_link),
            outcomes: outcomes_link,
            acknowledgements: acknowledge,
        };
        self.clock.forget();
        let clock = Rc::clone(&self.clock);
        let mut worker = Worker::new(WorkerConfig::default(), Allocator::Thread(Default::default()), None);
        let probe = worker.dataflow(|scope| process(scope, seams, rules(), clock));
        Process {
            worker,
            probe,
            arrivals,
            admissions,
            primary,
            fallback: self.plan.has_fallback.then_some(fallback),
            outcomes,
            acknowledgements,
            waiting: DeadlineQueue::default(),
            line: Vec::new(),
            asked: BTreeSet::new(),
            cached: BTreeSet::new(),
            model_is_busy: false,
            in_flight: Default::default(),
            events: BTreeMap::new(),
            admitted: BTreeMap::new(),
        }
    }

    /// The source: any message that nobody holds, in any order, now and then one that somebody holds.
    fn deliver(&mut self, process: &mut Process) -> Result<(), String> {
        let now = self.clock.now();
        for (lane, limit) in [(Lane::High, self.plan.high_limit), (Lane::Low, self.plan.low_limit)] {
            let count = &process.in_flight[lane as usize];
            let mut ready: Vec<u64> = self
                .durable
                .messages
                .iter()
                .filter(|(_, m)| !m.acknowledged && m.lane == lane)
                .filter(|(_, m)| {
                    m.leased_until.is_none_or(|until| until <= now) || self.plan.duplicates() && self.plan.chance(0.1)
                })
                .map(|(number, _)| *number)
                .collect();
            while !ready.is_empty() && (count.load(Ordering::Relaxed) < limit || self.bug == Some(Bug::NoPermits)) {
                let delivery = ready.swap_remove(self.plan.below(ready.len()));
                let message = self.durable.messages.get_mut(&delivery).expect("it is in the list");
                message.leased_until = Some(UtcMicros(now.0 + LEASE_US));
                message.deliveries += 1;
                self.summary.redeliveries += usize::from(message.deliveries > 1);
                count.fetch_add(1, Ordering::Relaxed);
                let ticket = Ticket { delivery, lane, permit: Arc::new(Permit(Arc::clone(count))) };
                process.arrivals.send(Arrival { payload: Arc::clone(&message.payload), ticket });
            }
            let live = count.load(Ordering::Relaxed);
            if live > limit {
                return Err(format!("{live} uploads of the {lane} lane are in flight, {limit} may be"));
            }
        }
        Ok(())
    }

    fn take_requests(&mut self, process: &mut Process) -> Result<(), String> {
        while let Ok((number, admission)) = process.admissions.requests.try_recv() {
            process.admitted.entry(admission.arrived_at).or_default().push(admission.upload_id.clone());
            let event = Event::Admit(number, admission, self.plan.fate());
            self.schedule(process, event);
        }
        while let Ok((number, write)) = process.outcomes.requests.try_recv() {
            if self.bug == Some(Bug::AcknowledgeBeforeCommit) {
                process.outcomes.answers.send((number, ()));
            }
            let event = Event::Write(number, Box::new(write), self.plan.fate());
            self.schedule(process, event);
        }
        while let Ok((number, question)) = process.primary.requests.try_recv() {
            let id = &question.upload.upload_id;
            if !process.asked.insert(id.clone()) {
                return Err(format!("the model is asked about {id} while it is asked already"));
            }
            process.waiting.push(question.deadline, (number, question.clone()));
            process.line.push((number, question));
        }
        let asked: Vec<_> = process.fallback.iter().flat_map(|port| port.requests.try_iter()).collect();
        for request in asked {
            self.summary.fallbacks += 1;
            let id = &request.1.upload.upload_id;
            if process.cached.contains(id) {
                return Err(format!("the fallback is paid for {id}, which the cache has answered"));
            }
            self.schedule(process, Event::Answer(Line::Fallback, vec![request]));
        }
        Ok(())
    }

    /// The model takes a batch when it is free. Promise 3: whoever is left waiting is due no sooner than whoever is taken.
    fn serve_primary(&mut self, process: &mut Process) -> Result<(), String> {
        if process.model_is_busy || process.line.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::new();
        while batch.len() < self.plan.batch && !process.line.is_empty() {
            let taken = if self.bug == Some(Bug::FirstComeFirstServed) {
                process.line.remove(0)
            } else {
                let taken = process.waiting.pop().expect("the queue and the line hold the same");
                process.line.retain(|(number, _)| *number != taken.0);
                taken
            };
            batch.push(taken);
        }
        for (_, taken) in &batch {
            for (_, left) in &process.line {
                if left.lane == Lane::High && left.deadline < taken.deadline {
                    return Err(format!(
                        "a high-priority upload was left behind: {} is due after {}",
                        taken.upload.upload_id, left.upload.upload_id
                    ));
                }
            }
        }
        process.model_is_busy = true;
        self.schedule(process, Event::Answer(Line::Primary, batch));
        Ok(())
    }

    fn schedule(&mut self, process: &mut Process, event: Event) {
        let due = self.clock.now().0 + self.plan.delay_us();
        process.events.insert((due, self.number()), event);
    }

    /// Promise 1, its first half: nothing is acknowledged before its outcome is durable.
    fn acknowledge(&mut self, process: &mut Process) -> Result<(), String> {
        while let Ok(ticket) = process.acknowledgements.try_recv() {
            let message = self.durable.messages.get(&ticket.delivery).expect("it was delivered");
            if self.durable.outcome(&message.upload_id).is_none() {
                return Err(format!("{} was acknowledged before its outcome was durable", message.upload_id));
            }
            if self.plan.fails() {
                self.summary.lost_answers += 1;
                continue;
            }
            self.durable.messages.get_mut(&ticket.delivery).expect("it was delivered").acknowledged = true;
        }
        Ok(())
    }

    /// Promise 2: where the frontier has passed an arrival, its outcome is durable.
    fn check_frontier(&self, process: &Process) -> Result<(), String> {
        for (arrived_at, ids) in &process.admitted {
            if process.probe.less_equal(&arrived_at.0) {
                break;
            }
            if let Some(open) = ids.iter().find(|id| self.durable.outcome(id).is_none()) {
                return Err(format!("the frontier passed the arrival of {open}, which has no outcome"));
            }
        }
        Ok(())
    }

    /// On to the next event, or a while where there is none (a pause or a lease runs out).
    fn pass_time(&mut self, process: &mut Process) {
        // Where nothing is under way but a pause or a lease, there is no need to look often.
        let longest = if process.events.is_empty() { LEASE_US } else { self.plan.delay_us() };
        let idle = self.clock.now().0 + 1 + longest / 10;
        let next = process.events.keys().next().map_or(idle, |(due, _)| *due);
        self.clock.advance(next.min(idle).max(self.clock.now().0));
        while let Some(entry) = process.events.first_entry() {
            if entry.key().0 > self.clock.now().0 {
                break;
            }
            let event = entry.remove();
            self.happen(process, event);
        }
    }

    fn happen(&mut self, process: &mut Process, event: Event) {
        match event {
            Event::Admit(number, admission, fate) => match fate {
                Fate::Well => {
                    let known = self.durable.admit(&admission);
                    process.admissions.answers.send((number, known));
                }
                Fate::FailsBefore => self.again(process, |fate| Event::Admit(number, admission, fate)),
                Fate::FailsAfter => {
                    self.durable.admit(&admission);
                    self.again(process, |fate| Event::Admit(number, admission, fate));
                }
            },
            Event::Write(number, write, fate) => match fate {
                Fate::Well => {
                    self.durable.commit(&write, self.bug);
                    if self.bug != Some(Bug::AcknowledgeBeforeCommit) {
                        process.outcomes.answers.send((number, ()));
                    }
                }
                Fate::FailsBefore => self.again(process, |fate| Event::Write(number, write, fate)),
                Fate::FailsAfter => {
                    self.durable.commit(&write, self.bug);
                    self.again(process, |fate| Event::Write(number, write, fate));
                }
            },
            Event::Answer(line, batch) => {
                let asked_at = self.clock.now();
                for (number, question) in batch {
                    let result = self.annotate();
                    let model = MODEL.to_owned();
                    let branch = self.branch(line, result.is_ok());
                    if branch == Branch::Cache {
                        process.cached.insert(question.upload.upload_id.clone());
                    }
                    let answer = Answer { branch, model, asked_at, answered_at: asked_at, result };
                    match line {
                        Line::Primary => {
                            process.asked.remove(&question.upload.upload_id);
                            process.primary.answers.send((number, answer))
                        }
                        Line::Fallback => process.fallback.as_ref().expect("it asked").answers.send((number, answer)),
                    };
                }
                if let Line::Primary = line {
                    process.model_is_busy = false;
                }
            }
        }
    }

    /// The store's worker tries again until it knows that the work is done.
    fn again(&mut self, process: &mut Process, event: impl FnOnce(Fate) -> Event) {
        self.summary.lost_answers += 1;
        let event = event(self.plan.fate());
        self.schedule(process, event);
    }

    fn annotate(&mut self) -> Result<Annotation, Fault> {
        if self.plan.fails() {
            return Err(match self.plan.below(5) {
                0 => Fault::permanent(ErrorType::AudioUndecodable, "not audio"),
                1 => Fault::permanent(ErrorType::Model, "NaN in the logits"),
                2 => Fault::indeterminate(ErrorType::Timeout, "no answer in time"),
                _ => Fault::retryable(ErrorType::Unavailable, "down"),
            });
        }
        Ok(Annotation {
            model: MODEL.to_owned(),
            metadata: Default::default(),
            confidence: Some(Confidence::try_from(0.5 + self.plan.fraction() / 2.0).expect("in range")),
            field_confidence: Default::default(),
            inference_ms: 1,
            cost: MicroUsd(1),
        })
    }

    /// Now and then the cache has the answer, before a model is asked.
    fn branch(&mut self, line: Line, has_answer: bool) -> Branch {
        match line {
            Line::Primary if has_answer && self.plan.chance(0.1) => Branch::Cache,
            Line::Primary => Branch::Primary,
            Line::Fallback => Branch::Fallback,
        }
    }

    /// Promise 1, its second half: one outcome each, and a dead letter only where it was deserved.
    fn check_end(mut self) -> Result<Summary, String> {
        for message in self.durable.messages.values() {
            let outcomes: Vec<_> =
                self.durable.outcomes().iter().filter(|o| o.upload_id == message.upload_id).collect();
            let [outcome] = outcomes[..] else {
                let count = if outcomes.is_empty() { "no outcome" } else { "two outcomes" };
                return Err(format!("{} has {count}", message.upload_id));
            };
            match outcome.status {
                Status::Completed => self.summary.completed += 1,
                Status::DeadLettered => self.summary.dead_lettered += 1,
            }
            self.summary.below_threshold += usize::from(outcome.below_threshold);
            self.summary.cached += usize::from(outcome.branch == Some(Branch::Cache));
            self.summary.retried += usize::from(outcome.attempts > 1);
            let hopeless = outcome.error_type.is_some_and(|kind| {
                matches!(kind, ErrorType::InvalidEvent | ErrorType::AudioUndecodable | ErrorType::Model)
            });
            if outcome.status == Status::DeadLettered && !hopeless && outcome.attempts < MAX_ATTEMPTS {
                return Err(format!("{} was dead-lettered after {} attempts", outcome.upload_id, outcome.attempts));
            }
        }
        Ok(self.summary)
    }
}

fn rules() -> Rules {
    let arm = |name: &str, weight| Arm {
        experiment: None,
        name: name.to_string(),
        weight,
        model: None,
        prompt: "?".into(),
        threshold: 0.8,
    };
    Rules {
        lanes: LaneRules {
            high_tiers: vec![Tier::Enterprise],
            high_modes: vec![Mode::Realtime],
            high_slo_ms: 1_000,
            low_slo_ms: 600_000,
        },
        experiment: Experiment::new("s".to_string(), Unit::Customer, vec![arm("a", 9), arm("b", 1)])
            .expect("weights")
            .into(),
        retry: RetryPolicy { max_attempts: MAX_ATTEMPTS, base_ms: 100, max_ms: 10_000 },
    }
}
