//! Clients over kill -9: the same ids, the same rooms, the same lists; no leave is told; each
//! message that was acknowledged is there once, and so is each that was asked again.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tidegate_testkit::ports::free_port;
use tokio::task::JoinSet;

use crate::support::{DEADLINE, Gateway};

const CLIENTS: usize = 12;
const ROOMS: usize = 3;
const ROUNDS: usize = 4;
const MESSAGES: usize = 12;

fn key(number: usize) -> String {
    format!("client-number-{number:04}-of-the-test")
}

fn room(number: usize) -> String {
    format!("/rooms/{}", number % ROOMS)
}

/// Sends an ordered request until it is answered.
async fn act(client: &reqwest::Client, url: &str, body: &Value) -> Value {
    let sending = async {
        loop {
            if let Ok(reply) = client.post(format!("{url}/client")).json(body).send().await {
                let status = reply.status();
                if let Ok(text) = reply.text().await {
                    if status == 200 {
                        return serde_json::from_str(&text).expect("JSON");
                    }
                    assert!(status.is_server_error(), "{status}: {text}");
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, sending).await.expect("an answer in time")
}

/// One client: joins its room, and sends numbered messages in order.
async fn work(url: String, number: usize) -> Vec<String> {
    let idle = Duration::from_millis(1);
    let client = reqwest::Client::builder().pool_idle_timeout(idle).build().expect("a client");
    let (key, room) = (key(number), room(number));
    let join = json!({ "client": key, "seq": 1, "do": [{ "join": room, "as": { "n": number } }] });
    act(&client, &url, &join).await;
    let mut ids = Vec::new();
    for message in 0..MESSAGES {
        let data = format!("{number}-{message}");
        let actions = json!([
            { "send": room, "type": "said", "data": data },
            { "set": room, "patch": { format!("c{number}"): message } },
        ]);
        let body = json!({ "client": key, "seq": 2 + message, "do": actions });
        let reply = act(&client, &url, &body).await;
        ids.push(reply["did"][0]["id"].as_str().expect("an id").to_owned());
        assert!(reply["did"][1]["rev"].is_u64(), "{reply}");
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_lists_and_messages_survive_kill_9() {
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let mut gateway = Gateway::durable(&[("SERVER__LISTEN", &address)]);
    let mut working = JoinSet::new();
    for number in 0..CLIENTS {
        working.spawn(work(url.clone(), number));
    }
    for _ in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..600))).await;
        let address = address.clone();
        let again = move || gateway.crash(&[("SERVER__LISTEN", &address)]);
        gateway = tokio::task::spawn_blocking(again).await.expect("it starts again");
    }
    let ids: Vec<String> = working.join_all().await.into_iter().flatten().collect();
    let address_again = address.clone();
    let again = move || gateway.crash(&[("SERVER__LISTEN", &address_again)]);
    let gateway = tokio::task::spawn_blocking(again).await.expect("it starts again");

    let mut told = Vec::new();
    for number in 0..ROOMS {
        let path = format!("/poll?topic={}&last_event_id=earliest&wait=0", room(number));
        let mut next = path;
        loop {
            let reply = gateway.poll(&next).await;
            told.extend(reply["events"].as_array().expect("a list").clone());
            if reply["more"] == false {
                break;
            }
            next = format!("/{}", reply["next"].as_str().expect("an address"));
        }
    }
    let said: Vec<&str> =
        told.iter().filter(|it| it["type"] == "said").filter_map(|it| it["id"].as_str()).collect();
    let once: BTreeSet<&str> = said.iter().copied().collect();
    assert_eq!(said.len(), once.len(), "no message is there twice");
    assert_eq!(said.len(), CLIENTS * MESSAGES);
    assert!(ids.iter().all(|id| once.contains(id.as_str())), "what was acknowledged is there");
    for client in 0..CLIENTS {
        let of_client = told.iter().filter(|it| it["type"] == "said").filter_map(|it| {
            let data: String = serde_json::from_str(it["data"].as_str()?).ok()?;
            let (of, message) = data.split_once('-')?;
            (of == client.to_string()).then(|| message.parse::<usize>().ok()).flatten()
        });
        let numbers: Vec<usize> = of_client.collect();
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "in the order of the client");
    }
    let changes = told.iter().filter(|it| it["type"] == "tidegate.change");
    for change in changes {
        let change: Value =
            serde_json::from_str(change["data"].as_str().expect("text")).expect("JSON");
        let members = change["members"].as_object();
        let left = members.is_some_and(|it| it.values().any(Value::is_null));
        assert!(!left, "a leave that was none: {change}");
    }
    for number in 0..CLIENTS {
        let path = format!("/poll?client={}&hello=event&wait=0", key(number));
        let reply = gateway.poll(&path).await;
        let hello = reply["events"][0]["data"].as_str().expect("a hello");
        let hello: Value = serde_json::from_str(hello).expect("JSON");
        assert!(hello["topics"].get(room(number)).is_some(), "{hello}");
        let state = gateway.poll(&format!("/state?topic={}", room(number))).await;
        assert_eq!(state["state"][format!("c{number}")], MESSAGES - 1, "{state}");
        let id = hello["client"].as_str().expect("an id");
        assert_eq!(state["members"][id]["data"]["n"], number, "{state}");
    }
}
