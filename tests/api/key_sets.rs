use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{
    Gateway,
    tokens::{ISSUER, KEYS, modern_claims, settings_file, sign_with},
};

/// A key pair, and its signature algorithm.
struct Signer {
    pair: KeyPair,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).expect("a key pair");
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        Self { pair, key: key.expect("a key"), algorithm }
    }

    fn jwk(&self, id: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(id);
        jwk
    }

    fn token(&self, id: Option<&str>) -> String {
        let mut header = Header::new(self.algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = id.map(ToOwned::to_owned);
        sign_with(&header, &modern_claims("publish", &[("exact", "*")]), &self.key)
    }
}

/// A server of one document, which counts requests.
struct KeyServer {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new((200, json!({ "keys": keys }).to_string())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let (status, body) = answers.lock().expect("no panic").clone();
                let reply = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Self { address, answer, asked }
    }

    fn set(&self, status: u16, body: &str) {
        *self.answer.lock().expect("no panic") = (status, body.to_owned());
    }

    fn set_keys(&self, keys: &[Value]) {
        self.set(200, &json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    fn gateway(&self, interval: &str) -> Gateway {
        self.gateway_with(&format!("jwks_interval = '{interval}'"))
    }

    /// A gateway that trusts the server, and further lines of `[auth]`.
    fn gateway_with(&self, lines: &str) -> Gateway {
        let file = settings_file(&format!(
            "[auth]\n{lines}\n[[auth.issuers]]\nname = '{ISSUER}'\n\
             publisher = {{ jwks_url = 'http://{}/jwks', algorithms = ['ES256', 'EdDSA', 'PS256', 'RS256', 'ES384'] }}\n",
            self.address
        ));
        let path = file.path().to_str().expect("text");
        Gateway::with(&[KEYS[1], KEYS[2], ("CONFIG", path)])
    }
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.post_as(token, &[("topic", "t")]).await.status().as_u16()
}

#[tokio::test]
async fn tokens_are_verified_with_every_family_of_algorithms() {
    let algorithms = [
        Algorithm::RS256,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];
    for algorithm in algorithms {
        let signer = Signer::new(algorithm);
        let key = signer.pair.public_key_pem();
        let file = settings_file(&format!(
            "[[auth.issuers]]\nname = '{ISSUER}'\npublisher = {{ key = '''{key}''', algorithms = ['{algorithm:?}'] }}\n"
        ));
        let path = file.path().to_str().expect("text");
        let gateway = Gateway::with(&[KEYS[1], KEYS[2], ("CONFIG", path)]);
        assert_eq!(status(&gateway, &signer.token(None)).await, 200, "{algorithm:?}");
        let other = Signer::new(algorithm);
        assert_eq!(status(&gateway, &other.token(None)).await, 401, "{algorithm:?}");
        // The public key is not a secret, so it must not verify HMAC signatures.
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some("at+jwt".to_owned());
        let claims = modern_claims("publish", &[("exact", "*")]);
        let forged = sign_with(&header, &claims, &EncodingKey::from_secret(key.as_bytes()));
        assert_eq!(status(&gateway, &forged).await, 401, "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_key_in_the_token_itself_is_not_believed() {
    let trusted = Signer::new(Algorithm::ES256);
    let server = KeyServer::start(&[trusted.jwk("a")]).await;
    let gateway = server.gateway("1h");
    let other = Signer::new(Algorithm::ES256);
    let mut header = Header::new(Algorithm::ES256);
    header.typ = Some("at+jwt".to_owned());
    header.kid = Some("a".to_owned());
    header.jku = Some(format!("http://{}/other", server.address));
    header.jwk = Some(Jwk::from_encoding_key(&other.key, Algorithm::ES256).expect("a key"));
    let token = sign_with(&header, &modern_claims("publish", &[("exact", "*")]), &other.key);
    assert_eq!(status(&gateway, &token).await, 401);
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_key_set_is_fetched_when_it_is_needed_and_no_sooner_than_the_interval() {
    let (first, second) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::RS256));
    let server = KeyServer::start(&[first.jwk("a")]).await;
    let gateway = server.gateway("1h");
    assert_eq!(server.asked(), 0);
    // Concurrent requests cause one fetch.
    let token = first.token(Some("a"));
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = gateway.client.post(gateway.url("/.well-known/mercure")).bearer_auth(&token);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        many.spawn(request.body("topic=t").send());
    }
    while let Some(reply) = many.join_next().await {
        assert_eq!(reply.expect("no panic").expect("a reply").status(), 200);
    }
    assert_eq!(server.asked(), 1);
    assert_eq!(status(&gateway, &first.token(None)).await, 200);
    server.set_keys(&[first.jwk("a"), second.jwk("b")]);
    for _ in 0..5 {
        assert_eq!(status(&gateway, &second.token(Some("b"))).await, 401);
        assert_eq!(status(&gateway, &first.token(Some("b"))).await, 401);
    }
    assert_eq!(server.asked(), 1, "unknown keys do not make it ask again within the interval");
    assert_eq!(status(&gateway, &first.token(Some("a"))).await, 200);
}

#[tokio::test]
async fn a_new_key_is_found_and_the_last_good_set_is_kept() {
    let (first, second) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::RS256));
    let server = KeyServer::start(&[first.jwk("a")]).await;
    let gateway = server.gateway("1ms");
    assert_eq!(status(&gateway, &first.token(Some("a"))).await, 200);
    let set = json!({ "keys": [first.jwk("a"), second.jwk("b")] }).to_string();
    let huge = format!("{set}{}", " ".repeat(300 * 1024));
    for (code, body) in
        [(500, "down"), (200, "no JSON"), (200, "{\"keys\":[]}"), (302, &set), (200, &huge)]
    {
        server.set(code, body);
        let asked = server.asked();
        assert_eq!(status(&gateway, &second.token(Some("b"))).await, 401, "{code}");
        assert_eq!(status(&gateway, &first.token(Some("a"))).await, 200, "{code}");
        assert!(asked < server.asked());
    }
    server.set(200, &set);
    assert_eq!(status(&gateway, &second.token(Some("b"))).await, 200);
    assert_eq!(status(&gateway, &first.token(Some("a"))).await, 200);
    // A key removed from the set is no longer accepted.
    server.set_keys(&[second.jwk("b")]);
    status(&gateway, &second.token(Some("c"))).await;
    assert_eq!(status(&gateway, &first.token(Some("a"))).await, 401);
}

#[tokio::test]
async fn a_key_set_whose_server_is_away_is_not_used_for_ever() {
    let signer = Signer::new(Algorithm::ES256);
    let server = KeyServer::start(&[signer.jwk("a")]).await;
    let gateway = server.gateway_with("jwks_interval = '1ms'\njwks_max_age = '1s'");
    let token = signer.token(Some("a"));
    assert_eq!(status(&gateway, &token).await, 200);
    server.set(500, "down");
    crate::support::watch::eventually("the keys are too old", async || {
        status(&gateway, &token).await == 401
    })
    .await;
    assert!(gateway.log().contains("auth.jwks_max_age"));
    server.set_keys(&[signer.jwk("a")]);
    crate::support::watch::eventually("the server is back", async || {
        status(&gateway, &token).await == 200
    })
    .await;
}
