//! Sockets that a shard writes to, compared with the same naive model as the feeds. A client reads
//! now and then, a few bytes at a time, and resumes when cut. It learns of everything that was
//! published for it, or that some of it is gone.

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use proptest::prelude::*;
use socket2::SockRef;
use tidegate_core::{
    clock::Clock,
    delivery::{Seats, Shard, Subscription, Terms},
    event::{EventId, Position, Update},
    history::{History, Memory, Retention, Start},
    hub::Hub,
    matching::{Interest, Matcher, Matchers, Rights},
    transport::{Ending, Gap, StreamWriter, Style, Transport},
};
use tidegate_testkit::library::update;

use crate::support::{
    DEADLINE,
    fickle::{Faults, Shared},
    raw::Chunks,
    sse::{Dispatched, Parser},
};

const TOPICS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    /// Publish this many updates of this many bytes on a topic.
    Publish(usize, usize, usize),
    /// A subscriber reads available bytes: this often, this many.
    Read(usize, usize, usize),
    /// A subscriber disconnects, and returns at its next read.
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![0..100_usize, Just(5000), Just(40_000)];
    let step = prop_oneof![
        3 => (0..TOPICS.len(), 1..6_usize, bytes).prop_map(|(a, b, c)| Step::Publish(a, b, c)),
        3 => (0..3_usize, 1..20_usize, 1..3000_usize).prop_map(|(a, b, c)| Step::Read(a, b, c)),
        1 => (0..3_usize).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 1..60)
}

fn numbered(topic: &str, number: usize, n_bytes: usize) -> Update {
    update(topic, format!("{number} {}", "x".repeat(n_bytes)))
}

fn style(is_chunked: bool) -> Style {
    let ending = Ending {
        recycle_after: None,
        last_event: None,
        retry: Duration::from_secs(1),
        retry_spread: Duration::ZERO,
    };
    let writer = StreamWriter::Sse { visible_heartbeats: false, is_json: false, is_chunked };
    Style { writer, is_old_dialect: false, ending, write_deadline: Duration::from_secs(600) }
}

/// The two ends of a connection with little in flight.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    SockRef::from(&server).set_send_buffer_size(4096).expect("a socket option");
    SockRef::from(&client).set_recv_buffer_size(32 * 1024).expect("a socket option");
    for end in [&server, &client] {
        end.set_nonblocking(true).expect("a socket option");
    }
    (server, client)
}

/// A client of the model: its interest, its position, and how much of all published it has learned
/// of.
struct Client {
    wants: Vec<&'static str>,
    interest: Arc<Interest>,
    is_chunked: bool,
    socket: Option<(TcpStream, Chunks, Parser)>,
    last_id: Option<String>,
    told: usize,
    /// It was told that something before this is gone.
    may_skip: usize,
}

/// The published events, and how many of them are kept.
struct World {
    hub: Hub,
    shard: Shard,
    published: Vec<&'static str>,
    kept: usize,
}

impl Client {
    fn new(wants: &[&'static str], everything: bool, is_chunked: bool) -> Self {
        let exact = wants.iter().map(|topic| Matcher::exact(topic, 9).expect("a topic"));
        let matchers = exact.chain(everything.then_some(Matcher::Everything));
        let interest = Arc::new(Interest::new(Matchers::new(matchers), None, Rights::Everything));
        let wants = if everything { TOPICS.to_vec() } else { wants.to_vec() };
        Self { wants, interest, is_chunked, socket: None, last_id: None, told: 0, may_skip: 0 }
    }

    /// Resumes with the id of the last event that it received completely.
    async fn come(&mut self, world: &World) {
        let history = world.hub.history();
        let key = history.cursor_key();
        let start = match &self.last_id {
            None => Start::Position(Position::START),
            Some(id) => key
                .open(id)
                .map_or_else(|| Start::Id(EventId::parse(id, 99).expect("an id")), Start::Position),
        };
        let located = history.locate(start, &self.interest).await.expect("memory");
        let cursor = self.last_id.clone().unwrap_or_default();
        let gap = located.missing.map(|missing| Gap { cursor, missing, after: located.after });
        let terms = Terms {
            transport: Transport::Sse,
            heartbeat: None,
            lifetime: Duration::from_secs(3600),
        };
        let subscription = Subscription {
            interest: self.interest.clone(),
            after: located.after,
            gap,
            n_dropped: located.n_dropped,
            terms,
            seat: Seats::new(1, 1).take(None).expect("a seat"),
            steer: None,
        };
        let (server, client) = connection();
        world.shard.adopt(server, subscription, style(self.is_chunked)).expect("adopted");
        self.socket = Some((client, Chunks::default(), Parser::default()));
    }

    /// Reads at most this many bytes. Returns whether there were any, or the end.
    async fn read(&mut self, world: &World, n_bytes: usize) -> bool {
        if self.socket.is_none() {
            self.come(world).await;
        }
        settle().await;
        let (socket, chunks, parser) = self.socket.as_mut().expect("it has come");
        let mut buffer = vec![0; n_bytes];
        let events = match socket.read(&mut buffer) {
            Ok(0) => {
                self.socket = None;
                return true;
            }
            Ok(n_read) if self.is_chunked => parser.feed(&chunks.feed(&buffer[..n_read])),
            Ok(n_read) => parser.feed(&buffer[..n_read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        };
        for event in events {
            self.take(world, event);
        }
        true
    }

    /// Compares a received event with everything that was published.
    fn take(&mut self, world: &World, event: Dispatched) {
        self.last_id = Some(event.id);
        let first_kept = world.published.len().saturating_sub(world.kept);
        let mut wanted = (self.told..world.published.len())
            .filter(|it| self.wants.contains(&world.published[*it]));
        if event.kind == "tidegate.gap" {
            assert!(wanted.any(|it| it < first_kept), "told of a gap that is none");
            self.may_skip = first_kept;
            return;
        }
        let number = event.data.split(' ').next().and_then(|it| it.parse::<usize>().ok());
        let number = number.expect("a number");
        let next = wanted.find(|it| self.may_skip <= *it || *it == number);
        assert_eq!(Some(number), next, "in order, none skipped, none twice");
        self.told = number + 1;
    }

    /// Whether it has learned of everything.
    fn has_all(&self, world: &World) -> bool {
        let mut rest = world.published[self.told.max(self.may_skip)..].iter();
        !rest.any(|it| self.wants.contains(it))
    }
}

/// The history of a run: one that learns at once what it has stored, or late and in bursts.
fn history(kept: usize, is_late: bool) -> Arc<dyn History> {
    if is_late {
        return Arc::new(Shared::new(kept, Faults { conflicts: 0, forgotten: 0 }).node());
    }
    let retention =
        Retention { bytes: usize::MAX, events: kept, age: SignedDuration::MAX, remembered: 1000 };
    Arc::new(Memory::new(retention, Clock::system()))
}

async fn run(steps: Vec<Step>, kept: usize, tail_bytes: usize, is_late: bool) {
    let history = history(kept, is_late);
    let hub = Hub::start(history, tail_bytes, false).expect("a hub");
    let shard = Shard::of_this_thread(&hub);
    let mut world = World { hub, shard, published: Vec::new(), kept };
    let mut clients = [
        Client::new(&["a"], false, true),
        Client::new(&["b", "c"], false, true),
        Client::new(&["c"], true, false),
    ];
    for step in steps {
        match step {
            Step::Publish(topic, count, n_bytes) => {
                let (topic, first) = (TOPICS[topic], world.published.len());
                let updates = (first..first + count).map(|it| numbered(topic, it, n_bytes));
                world.hub.publish(updates.collect()).await.expect("published");
                world.published.extend(std::iter::repeat_n(topic, count));
            }
            Step::Read(who, count, n_bytes) => {
                for _ in 0..count {
                    clients[who].read(&world, n_bytes).await;
                }
            }
            Step::Leave(who) => clients[who].socket = None,
        }
    }
    for client in &mut clients {
        let deadline = Instant::now() + DEADLINE;
        while client.read(&world, 64 * 1024).await || !client.has_all(&world) {
            assert!(Instant::now() < deadline, "it is not told of everything");
            // Written bytes are still in flight.
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }
}

/// Lets the shard process everything that it was notified of.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_of_a_socket_in_pieces_gets_what_the_history_held_in_order(
        steps in steps(),
        kept in 1..40_usize,
        tail_bytes in prop_oneof![Just(1_usize), Just(20_000), Just(1 << 20)],
        is_late in any::<bool>(),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, run(steps, kept, tail_bytes, is_late));
    }
}
