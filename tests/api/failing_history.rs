//! A history that becomes unreadable ends the streams that need it, and never corrupts an event.

use std::{
    io::{self, Read as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use jiff::SignedDuration;
use tidegate_core::{
    clock::Clock,
    delivery::{Seats, Shard, Subscription, Terms},
    event::Position,
    history::{
        Answer, Batch, Budget, Committed, CursorKey, Follower, History, HistoryError, Located,
        Memory, Page, Retention, Revised, Search, Shelf, Start,
    },
    hub::Hub,
    matching::{Interest, Matcher, Matchers, Rights},
    transport::{Ending, StreamWriter, Style, Transport},
};
use tidegate_testkit::library::update;

/// A history in memory that fails on demand.
#[derive(Debug)]
struct Failing {
    memory: Memory,
    fails: Arc<AtomicBool>,
}

impl History for Failing {
    fn submit(&self, batch: Batch) -> Answer<Committed> {
        self.memory.submit(batch)
    }

    fn current(&self) -> Answer<Position> {
        self.memory.current()
    }

    fn follow(&self, follower: Follower) -> io::Result<()> {
        self.memory.follow(follower)
    }

    fn read_after(
        &self,
        after: Position,
        interest: &Arc<Interest>,
        budget: Budget,
    ) -> Answer<Page> {
        if self.fails.load(SeqCst) {
            return Box::pin(async { Err(HistoryError::Unavailable("it is gone".to_owned())) });
        }
        self.memory.read_after(after, interest, budget)
    }

    fn locate(&self, start: Start, interest: &Arc<Interest>) -> Answer<Located> {
        self.memory.locate(start, interest)
    }

    fn step_back(&self, search: Search, interest: &Arc<Interest>) -> Answer<Search> {
        self.memory.step_back(search, interest)
    }

    fn reply(&self, key: &str) -> Answer<Option<Box<[u8]>>> {
        self.memory.reply(key)
    }

    fn records(&self, shelf: Shelf) -> Result<Vec<Revised>, HistoryError> {
        self.memory.records(shelf)
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn n_read(&self) -> u64 {
        0
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn close(&self) {}

    fn last(&self) -> Position {
        self.memory.last()
    }

    fn cursor_key(&self) -> &CursorKey {
        self.memory.cursor_key()
    }
}

async fn publish(hub: &Hub, data: String) {
    hub.publish(vec![update("t", data)]).await.expect("published");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What a client receives that stalls after `first`, while others overtake it and the history
/// fails.
async fn told(first: String) -> String {
    let retention =
        Retention { bytes: usize::MAX, events: 99, age: SignedDuration::MAX, remembered: 9 };
    let fails = Arc::new(AtomicBool::new(false));
    let memory = Memory::new(retention, Clock::system());
    let history = Arc::new(Failing { memory, fails: fails.clone() });
    let hub = Hub::start(history, 1, false).expect("a hub");
    let shard = Shard::of_this_thread(&hub);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    server.set_nonblocking(true).expect("a socket option");
    let terms =
        Terms { transport: Transport::Sse, heartbeat: None, lifetime: Duration::from_secs(3600) };
    let ending = Ending {
        recycle_after: None,
        last_event: None,
        retry: Duration::from_secs(1),
        retry_spread: Duration::ZERO,
    };
    let writer = StreamWriter::Sse { visible_heartbeats: false, is_json: false, is_chunked: false };
    let style =
        Style { writer, is_old_dialect: false, ending, write_deadline: Duration::from_secs(600) };
    let interest =
        Arc::new(Interest::new(Matchers::new([Matcher::Everything]), None, Rights::Everything));
    let seat = Seats::new(1, 1).take(None).expect("a seat");
    let subscription = Subscription {
        interest,
        after: Position::START,
        gap: None,
        n_dropped: 0,
        terms,
        seat,
        steer: None,
    };
    shard.adopt(server, subscription, style).expect("adopted");
    publish(&hub, first).await;
    fails.store(true, SeqCst);
    for _ in 0..3 {
        publish(&hub, "y".repeat(600_000)).await;
    }
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        client.read_to_string(&mut text).expect("readable");
        text
    });
    let text = tokio::time::timeout(crate::support::DEADLINE, reading).await;
    text.expect("in time").expect("no panic")
}

#[tokio::test]
async fn the_end_never_stands_within_an_event() {
    let local = tokio::task::LocalSet::new();
    // More than the kernel buffers for a connection.
    let text = local.run_until(told("x".repeat(30 << 20))).await;
    assert!(text.len() < 30 << 20, "only part of it: {}", text.len());
    let rest = text.strip_prefix("data: ").expect("an event");
    assert!(rest.bytes().all(|it| it == b'x'), "{}", &rest[rest.len() - 50..]);
}
