//! Topics joined and left on open streams, against a naive model: a stream gets what was published
//! while the topic was joined, in order and once, whether it is a socket or a feed, quick or slow,
//! live or catching up, cut and resumed.

use std::{
    collections::BTreeMap,
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
    delivery::{Feed, Item, Seats, Shard, Steer, Subscription, Terms},
    event::{ClientKey, Draft, Limits, Position, Topic, Update},
    history::{Memory, Retention},
    hub::Hub,
    matching::{Interest, JoinedTopic, Matcher, Matchers, Rights},
    transport::{Ending, StreamWriter, Style, Transport},
};

use crate::support::{DEADLINE, raw::Chunks, sse::Parser};

/// The first one is asked for by the request, the others are joined.
const TOPICS: [&str; 4] = ["asked", "a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    /// Publish this many updates of this many bytes on a topic, private or not.
    Publish(usize, usize, usize, bool),
    /// A client joins or leaves one of the topics.
    Join(usize, usize),
    Leave(usize, usize),
    /// A client reads: this often, this many bytes or events.
    Read(usize, usize, usize),
    /// A client disconnects, and returns at its next read.
    Cut(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![0..100_usize, Just(5000), Just(40_000)];
    let step = prop_oneof![
        4 => (0..TOPICS.len(), 1..6_usize, bytes, any::<bool>())
            .prop_map(|(a, b, c, d)| Step::Publish(a, b, c, d)),
        3 => (0..3_usize, 1..TOPICS.len()).prop_map(|(a, b)| Step::Join(a, b)),
        2 => (0..3_usize, 1..TOPICS.len()).prop_map(|(a, b)| Step::Leave(a, b)),
        3 => (0..3_usize, 1..20_usize, 1..3000_usize).prop_map(|(a, b, c)| Step::Read(a, b, c)),
        1 => (0..3_usize).prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 1..60)
}

fn update(topic: &str, number: usize, n_bytes: usize, private: bool) -> Update {
    let limits = Limits {
        topics: 9,
        topic_bytes: 9,
        id_bytes: 99,
        type_bytes: 9,
        except: 9,
        client_key_bytes: 9,
    };
    let hub = url::Url::parse("http://localhost/.well-known/mercure").expect("a valid address");
    let data = format!("{number} {}", "x".repeat(n_bytes));
    let topics = vec![topic.to_owned()];
    // The request has no rights to private events; a joined topic is a right of its own.
    let private = private && topic != TOPICS[0];
    let draft = Draft { topics, data, private, ..Draft::default() };
    draft.validate(&limits, &hub).expect("valid")
}

/// What a client has to hear of a published update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Never,
    Must,
    /// It was left before it was read.
    May,
}

enum Sink {
    Socket(TcpStream, Chunks, Parser),
    Feed(Feed),
}

struct Client {
    id: ClientKey,
    is_socket: bool,
    joined: BTreeMap<&'static str, Position>,
    stream: Option<(Sink, Steer)>,
    after: Position,
    due: Vec<Due>,
    /// How many of all published it has been told.
    told: usize,
}

struct World {
    hub: Hub,
    shard: Shard,
    positions: Vec<Position>,
}

impl Client {
    fn new(number: u8, is_socket: bool) -> Self {
        Self {
            id: ClientKey::kept([number; 16]),
            is_socket,
            joined: BTreeMap::new(),
            stream: None,
            after: Position::START,
            due: Vec::new(),
            told: 0,
        }
    }

    fn topics(&self) -> Vec<JoinedTopic> {
        let joined = self.joined.iter();
        joined
            .map(|(topic, since)| JoinedTopic {
                topic: Topic::parse(topic, 9).expect("a topic"),
                since: *since,
            })
            .collect()
    }

    fn come(&mut self, world: &World) {
        let asked = Matchers::new([Matcher::exact(TOPICS[0], 9).expect("a topic")]);
        let asked = Interest::new(asked, None, Rights::PublicOnly);
        let steer = Steer::new(asked.of_clients([self.id], self.topics()));
        let terms = Terms {
            transport: if self.is_socket { Transport::Sse } else { Transport::Poll },
            heartbeat: None,
            lifetime: Duration::from_secs(3600),
        };
        let subscription = Subscription {
            interest: steer.interest(),
            after: self.after,
            gap: None,
            n_dropped: 0,
            terms,
            seat: Seats::new(1, 1).take(None).expect("a seat"),
            steer: Some(steer.clone()),
        };
        let sink = if self.is_socket {
            let (server, client) = connection();
            world.shard.adopt(server, subscription, style()).expect("adopted");
            Sink::Socket(client, Chunks::default(), Parser::default())
        } else {
            Sink::Feed(world.shard.subscribe(subscription))
        };
        self.stream = Some((sink, steer));
    }

    /// Changes what is joined, on the open stream if there is one.
    async fn change(&mut self, world: &World, topic: &'static str, joins: bool) {
        let known = self.joined.remove(topic).filter(|_| joins);
        let others = self.topics();
        let id = self.id;
        let change = move |interest: &Interest, at: Position| {
            let joined = joins.then(|| JoinedTopic {
                topic: Topic::parse(topic, 9).expect("a topic"),
                since: known.unwrap_or(at),
            });
            interest.of_clients([id], others.into_iter().chain(joined))
        };
        let at = match &self.stream {
            Some((_, steer)) => steer.swap(&world.hub, change).await,
            None => world.hub.tail().newest(),
        };
        if joins {
            self.joined.insert(topic, known.unwrap_or(at));
        }
    }

    /// Reads at most this many bytes or events. Returns whether there were any, or the end.
    async fn read(&mut self, world: &World, amount: usize) -> bool {
        if self.stream.is_none() {
            self.come(world);
        }
        settle().await;
        let (sink, _) = self.stream.as_mut().expect("it has come");
        let mut told = Vec::new();
        let has_read = match sink {
            Sink::Socket(socket, chunks, parser) => {
                let mut buffer = vec![0; amount];
                match socket.read(&mut buffer) {
                    // The rest of an event that is not for it any more cannot follow.
                    Ok(0) => {
                        self.stream = None;
                        true
                    }
                    Ok(n_read) => {
                        told = parser.feed(&chunks.feed(&buffer[..n_read]));
                        true
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
                    Err(error) => panic!("{error}"),
                }
            }
            Sink::Feed(feed) => match feed.next_waiting().await {
                Some(Item::Event(event)) => {
                    self.take(world, &event.update.data);
                    true
                }
                Some(other) => panic!("{other:?}"),
                None => false,
            },
        };
        for event in told {
            self.take(world, &event.data);
        }
        has_read
    }

    fn take(&mut self, world: &World, data: &str) {
        let number = data.split(' ').next().and_then(|it| it.parse::<usize>().ok());
        let number = number.expect("a number");
        assert!(self.told <= number, "{number} comes twice, or too late");
        assert_ne!(self.due[number], Due::Never, "{number} is not for it");
        let skipped = self.due[self.told..number].iter().position(|it| *it == Due::Must);
        assert_eq!(skipped.map(|it| it + self.told), None, "skipped before {number}");
        self.told = number + 1;
        self.after = world.positions[number];
    }

    fn has_all(&self) -> bool {
        !self.due[self.told..].contains(&Due::Must)
    }
}

fn style() -> Style {
    let ending = Ending {
        recycle_after: None,
        last_event: None,
        retry: Duration::from_secs(1),
        retry_spread: Duration::ZERO,
    };
    let writer = StreamWriter::Sse { visible_heartbeats: false, is_json: false, is_chunked: true };
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

async fn run(steps: Vec<Step>, tail_bytes: usize) {
    let retention = Retention {
        bytes: usize::MAX,
        events: 100_000,
        age: SignedDuration::MAX,
        remembered: 1000,
    };
    let history = Arc::new(Memory::new(retention, Clock::system()));
    let hub = Hub::start(history, tail_bytes, false).expect("a hub");
    let shard = Shard::of_this_thread(&hub);
    let mut world = World { hub, shard, positions: Vec::new() };
    let mut clients = [Client::new(1, true), Client::new(2, false), Client::new(3, true)];
    let mut topics = Vec::new();
    for step in steps {
        match step {
            Step::Publish(topic, count, n_bytes, private) => {
                let (topic, first) = (TOPICS[topic], topics.len());
                for number in first..first + count {
                    let update = update(topic, number, n_bytes, private);
                    world.hub.publish(vec![update]).await.expect("published");
                    world.positions.push(world.hub.tail().newest());
                    topics.push(topic);
                }
                for client in &mut clients {
                    let hears = topic == TOPICS[0] || client.joined.contains_key(topic);
                    let due = if hears { Due::Must } else { Due::Never };
                    client.due.extend(std::iter::repeat_n(due, count));
                }
            }
            Step::Join(who, topic) => clients[who].change(&world, TOPICS[topic], true).await,
            Step::Leave(who, topic) => {
                let client = &mut clients[who];
                client.change(&world, TOPICS[topic], false).await;
                for (number, due) in client.due.iter_mut().enumerate() {
                    if topics[number] == TOPICS[topic] && *due == Due::Must {
                        *due = Due::May;
                    }
                }
            }
            Step::Read(who, count, amount) => {
                for _ in 0..count {
                    clients[who].read(&world, amount).await;
                }
            }
            Step::Cut(who) => clients[who].stream = None,
        }
    }
    for client in &mut clients {
        let deadline = Instant::now() + DEADLINE;
        while client.read(&world, 64 * 1024).await || !client.has_all() {
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
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_gets_what_was_published_while_its_topics_were_joined(
        steps in steps(),
        tail_bytes in prop_oneof![Just(1_usize), Just(20_000), Just(1 << 20)],
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, run(steps, tail_bytes));
    }
}
