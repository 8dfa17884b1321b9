//! Where timely meets threads, and the only place: [`intake`] lets messages in, [`bridge`] asks slow work for answers.
//!
//! A bridge sends each item's request through a bounded channel, keeps the item and its capability, and gives the answer
//! out under that capability; so the frontier passes an item's time only after its answer. Answers may come in any order.
//! The channels hold as many items as the permits let into the process: a full channel is a broken invariant, not a wait.
//! A worker that dies drops its port, and the bridge panics rather than wait for ever; unacknowledged work comes back.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, StreamVec};
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use timely::scheduling::SyncActivator;

use crate::SharedClock;

type Waker = Arc<OnceLock<SyncActivator>>;

/// The sending half of a channel into the graph: each message wakes the operator that reads it.
pub struct Sender<A> {
    /// Emptied only when dropped.
    channel: Option<SyncSender<A>>,
    waker: Waker,
}

impl<A> Clone for Sender<A> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<A> Sender<A> {
    /// Hands a message to the graph. `false` where the graph is gone.
    ///
    /// # Panics
    /// Where more messages are under way than the channel was made for.
    pub fn send(&self, message: A) -> bool {
        let channel = self.channel.as_ref().expect("a sender has its channel until it is dropped");
        match channel.try_send(message) {
            Ok(()) => {
                self.wake();
                true
            }
            Err(TrySendError::Full(_)) => {
                panic!("a channel into the graph is full: more is in flight than its permits allow")
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            // Fails where the worker is gone, and with it whoever would read the message.
            waker.activate().ok();
        }
    }
}

impl<A> Drop for Sender<A> {
    /// Closes the channel, then wakes the reader, so that it sees the end.
    fn drop(&mut self) {
        drop(self.channel.take());
        self.wake();
    }
}

/// The graph's end of a channel into it.
pub struct Inlet<A> {
    channel: Receiver<A>,
    waker: Waker,
}

/// A channel into the graph that holds at most `capacity` messages.
pub fn inlet<A>(capacity: usize) -> (Sender<A>, Inlet<A>) {
    let (sender, receiver) = sync_channel(capacity);
    let waker = Waker::default();
    (Sender { channel: Some(sender), waker: Arc::clone(&waker) }, Inlet { channel: receiver, waker })
}

/// The graph's end of a bridge: requests out, answers in.
pub struct Link<Q, A> {
    requests: SyncSender<(u64, Q)>,
    answers: Inlet<(u64, A)>,
}

/// The working end of a bridge: requests in, answers out, matched by number.
pub struct Port<Q, A> {
    /// What to do. Closed when the graph has ended.
    pub requests: Receiver<(u64, Q)>,
    /// Where each answer goes, with its request's number; once each.
    pub answers: Sender<(u64, A)>,
}

/// Both ends of a bridge for at most `capacity` items in flight.
pub fn link<Q, A>(capacity: usize) -> (Link<Q, A>, Port<Q, A>) {
    let (requests, port_requests) = sync_channel(capacity);
    let (port_answers, answers) = inlet(capacity);
    (Link { requests, answers }, Port { requests: port_requests, answers: port_answers })
}

/// Lets messages into the graph, each at the clock's time when it is read; ends when all senders are dropped.
pub fn intake<'scope, D: 'static>(
    scope: Scope<'scope, u64>,
    name: &str,
    inlet: Inlet<D>,
    clock: SharedClock,
) -> StreamVec<'scope, u64, D> {
    source(scope, name, |capability, info| {
        inlet.waker.get_or_init(|| scope.worker().sync_activator_for(info.address.to_vec()));
        let mut capability = Some(capability);
        move |output| {
            let Some(held) = capability.as_mut() else { return };
            let now = clock.now().0.max(*held.time());
            held.downgrade(&now);
            loop {
                match inlet.channel.try_recv() {
                    Ok(message) => output.session(&*held).give(message),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        capability = None;
                        break;
                    }
                }
            }
        }
    })
}

/// Asks for an answer to each item: `ask` makes the request from the item and its time, and keeps what `join` makes the
/// result of, together with the answer. The item's time is held until its answer is out.
///
/// ```
/// use operators::bridge::{bridge, link};
/// use timely::dataflow::operators::{Inspect, ToStream};
///
/// timely::example(|scope| {
///     let (link, port) = link::<u32, u32>(10);
///     std::thread::spawn(move || {
///         while let Ok((number, request)) = port.requests.recv() {
///             port.answers.send((number, request * request));
///         }
///     });
///     let squares = bridge((1..=3).to_stream(scope).container(), "Square", link, |_, item| (item, item), |item, answer| (item, answer));
///     squares.inspect(|(item, square)| assert_eq!(item * item, *square));
/// });
/// ```
pub fn bridge<'scope, T, I, Q, K, A, O>(
    stream: StreamVec<'scope, T, I>,
    name: &str,
    link: Link<Q, A>,
    mut ask: impl FnMut(&T, I) -> (Q, K) + 'static,
    mut join: impl FnMut(K, A) -> O + 'static,
) -> StreamVec<'scope, T, O>
where
    T: Timestamp + TotalOrder,
    I: 'static,
    Q: 'static,
    K: 'static,
    A: 'static,
    O: 'static,
{
    let worker = stream.scope().worker();
    let label = name.to_string();
    stream.unary(Pipeline, name, move |_capability, info| {
        link.answers.waker.get_or_init(|| worker.sync_activator_for(info.address.to_vec()));
        let mut waiting: BTreeMap<u64, (Capability<T>, K)> = BTreeMap::new();
        let mut number = 0;
        move |input, output| {
            input.for_each_stamp(|capability, batches| {
                let capability = capability.retain_least(output.output_index()).expect("each message has a time");
                for item in batches.flat_map(|batch| batch.drain(..)) {
                    number += 1;
                    let (request, kept) = ask(capability.time(), item);
                    if let Err(error) = link.requests.try_send((number, request)) {
                        panic!("the bridge {label} cannot hand on work: {}", reason(&error));
                    }
                    waiting.insert(number, (capability.clone(), kept));
                }
            });
            loop {
                match link.answers.channel.try_recv() {
                    Ok((number, answer)) => {
                        let (capability, kept) = waiting.remove(&number).expect("each request is answered once");
                        output.session(&capability).give(join(kept, answer));
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        assert!(waiting.is_empty(), "the worker behind the bridge {label} died with work in hand");
                        break;
                    }
                }
            }
        }
    })
}

fn reason<Q>(error: &TrySendError<Q>) -> &'static str {
    match error {
        TrySendError::Full(_) => "more is in flight than its permits allow",
        TrySendError::Disconnected(_) => "its worker died",
    }
}
