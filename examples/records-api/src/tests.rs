//! The URLs and forms that clients of such an API expect, tested over real connections.

use crate::router;
use crate::store::Store;
use keyward_testbed::http1::{self, Client, Response};
use serde_json::{Value, json};
use std::net::SocketAddr;

struct Running {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Running {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router(Store::seeded())).await });
        Self { address, _runtime: runtime }
    }

    fn get(&self, target: &str) -> Response {
        http1::get(self.address, target, &[("x-api-key-id", "key_01"), ("x-api-key-name", "CI%20Bot")]).unwrap()
    }

    fn send(&self, method: &str, target: &str, content_type: &str, body: &[u8]) -> Response {
        let headers = [(b"content-type".to_vec(), content_type.as_bytes().to_vec())];
        let mut client = Client::connect(self.address).unwrap();
        client.send(&http1::encode(method.as_bytes(), target.as_bytes(), &headers, body)).unwrap();
        client.receive(method).unwrap()
    }

    fn send_json(&self, method: &str, target: &str, body: &Value) -> Response {
        self.send(method, target, "application/json", body.to_string().as_bytes())
    }
}

#[test]
fn a_list_has_pages_and_tells_who_called() {
    let api = Running::start();
    let response = api.get("/api/collections/posts/records?page=2&perPage=2&sort=title");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-caller-id"), Some("key_01"));
    let list = response.json();
    assert_eq!((&list["page"], &list["totalItems"], &list["totalPages"]), (&json!(2), &json!(3), &json!(2)));
    assert_eq!(list["items"][0]["title"], "Permissions");
    assert_eq!(list["caller"], json!({"id": "key_01", "name": "CI%20Bot"}));
}

#[test]
fn a_record_lives_from_create_to_delete() {
    let api = Running::start();
    let created = api.send_json("POST", "/api/collections/notes/records", &json!({"text": "a"})).json();
    let url = format!("/api/collections/notes/records/{}", created["id"].as_str().unwrap());
    assert_eq!(api.get(&url).json()["text"], "a");
    // Fields that the API sets cannot be overwritten.
    let updated = api.send_json("PATCH", &url, &json!({"text": "b", "id": "x", "created": 0})).json();
    assert_eq!((&updated["text"], &updated["id"]), (&json!("b"), &created["id"]));
    assert_eq!(updated["created"], created["created"]);
    assert_eq!(api.send_json("DELETE", &url, &json!({})).status, 204);
    let gone = api.get(&url);
    assert_eq!((gone.status, &gone.json()["status"]), (404, &json!(404)));
}

#[test]
fn an_uploaded_file_comes_back_byte_by_byte() {
    let api = Running::start();
    let body = b"--x\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\nPicture\r\n\
        --x\r\ncontent-disposition: form-data; name=\"image\"; filename=\"../a b.png\"\r\ncontent-type: image/png\r\n\r\n\
        \x89PNG\x00\xff\r\n--x--\r\n";
    let record = api.send("POST", "/api/collections/posts/records", "multipart/form-data; boundary=x", body).json();
    assert_eq!(record["title"], "Picture");
    let (id, name) = (record["id"].as_str().unwrap(), record["image"].as_str().unwrap());
    assert!(name.starts_with("ab_") && name.ends_with(".png"), "{name}");
    let file = api.get(&format!("/api/files/posts/{id}/{name}"));
    assert_eq!((file.header("content-type"), &*file.body), (Some("image/png"), &b"\x89PNG\x00\xff"[..]));
    assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(api.get(&format!("/api/files/posts/{id}/other.png")).status, 404);
}

#[test]
fn a_batch_does_each_and_answers_each() {
    let api = Running::start();
    let requests = json!({"requests": [
        {"method": "POST", "url": "/api/collections/notes/records", "body": {"text": "a"}},
        {"method": "DELETE", "url": "/api/collections/notes/records/none"},
        {"method": "GET", "url": "/api/collections/notes/records"},
    ]});
    let answers = api.send_json("POST", "/api/batch", &requests).json();
    let statuses: Vec<_> =
        answers.as_array().unwrap().iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 400]);
}

#[test]
fn a_subscriber_hears_of_changes() {
    let api = Running::start();
    let mut stream = Client::connect(api.address).unwrap();
    stream.send(&http1::encode(b"GET", b"/api/realtime", &[], b"")).unwrap();
    let mut heard = String::new();
    let mut hear = |until: &str| {
        while !heard.contains(until) {
            heard.push_str(&String::from_utf8_lossy(&stream.receive_some().unwrap()));
        }
        heard.clone()
    };
    let hello = hear("\"}\n");
    let client = hello.split("\"clientId\":\"").nth(1).unwrap().split('"').next().unwrap();
    let wanted = json!({"clientId": client, "subscriptions": ["posts/*"]});
    assert_eq!(api.send_json("POST", "/api/realtime", &wanted).status, 204);
    api.send_json("POST", "/api/collections/notes/records", &json!({"text": "not asked for"}));
    api.send_json("POST", "/api/collections/posts/records", &json!({"title": "asked for"}));
    let heard = hear("\"asked for\"");
    assert!(heard.contains("event: posts/*") && !heard.contains("not asked for"), "{heard}");
    let stranger = json!({"clientId": "nobody", "subscriptions": []});
    assert_eq!(api.send_json("POST", "/api/realtime", &stranger).status, 404);
}

#[test]
fn what_is_wrong_is_said() {
    let api = Running::start();
    for (method, target, body) in [
        ("POST", "/api/collections/posts/records", &b"{"[..]),
        ("POST", "/api/collections/posts/records", b"[]"),
        ("POST", "/api/batch", b"{\"requests\":7}"),
    ] {
        let response = api.send(method, target, "application/json", body);
        assert_eq!(response.status, 400, "{}", response.text());
        assert!(response.json()["message"].is_string());
    }
    assert_eq!(api.get("/api/nothing").status, 404);
    assert_eq!(api.get("/api/health").status, 200);
}
