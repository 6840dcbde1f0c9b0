//! The service is killed in the middle of its work: nothing that was acknowledged is lost.

mod support;

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::manifest::{Change, Page};
use keyward_testbed::{wait, workspace};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use support::{PATIENCE, Service, Start};

/// Changes acknowledged before each kill.
const CHANGES: usize = 250;
const KILLS: usize = 4;

/// The live keys by id, as a filter would know them, verified by count and checksum.
fn live(service: &Service) -> (BTreeMap<String, String>, u64) {
    let edge = service.edge();
    let (mut keys, mut sum) = (BTreeMap::new(), Checksum::default());
    let (mut since, mut base) = (0, 0);
    loop {
        let text = edge.get(&format!("/v1/manifest?since={since}&base={base}&limit=400")).text;
        let page: Page<'_> = serde_json::from_str(&text).unwrap();
        for change in &page.keys {
            if let Change::Live(key) = change {
                sum.add(contribution(key));
                keys.insert(key.id.to_string(), key.name.to_string());
            }
        }
        (since, base) = (page.revision, page.head);
        if !page.more {
            assert_eq!(page.live.count, keys.len() as u64);
            assert_eq!(page.live.checksum.as_deref(), Some(&*sum.to_string()));
            return (keys, page.revision);
        }
    }
}

#[test]
fn kill_9_in_the_middle_of_a_thousand_writes_loses_nothing() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path()).with("KEYWARD_LOG", "info");
    let mut acknowledged: BTreeMap<String, bool> = BTreeMap::new();
    for round in 0..KILLS {
        let mut service = start.serve();
        let done = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (admin, done) = (service.admin(), Arc::clone(&done));
                thread::spawn(move || {
                    let mut fate = Vec::new();
                    for n in 0.. {
                        let body = json!({ "name": format!("{round} {writer} {n}"), "permissions": ["records:read"] });
                        let json = [("content-type", "application/json")];
                        let body = body.to_string();
                        let Ok(reply) = admin.try_send("POST", "/v1/keys", &json, body.as_bytes()) else { break };
                        let id = reply.ok(201)["id"].as_str().unwrap().to_owned();
                        fate.push((id.clone(), Some(true)));
                        done.fetch_add(1, Ordering::Relaxed);
                        if n % 3 == 0 {
                            let path = format!("/v1/keys/{id}?wait=0s");
                            // Without an answer it may be gone or not.
                            fate.last_mut().unwrap().1 = None;
                            let Ok(reply) = admin.try_send("DELETE", &path, &[], b"") else { break };
                            reply.ok(200);
                            fate.last_mut().unwrap().1 = Some(false);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    fate
                })
            })
            .collect();
        wait::until("enough is acknowledged", PATIENCE, || (done.load(Ordering::Relaxed) >= CHANGES).then_some(()));
        service.kill();
        for writer in writers {
            acknowledged.extend(writer.join().unwrap().into_iter().filter_map(|(id, lives)| Some((id, lives?))));
        }
        let service = start.serve();
        let (keys, revision) = live(&service);
        for (id, lives) in &acknowledged {
            assert_eq!(keys.contains_key(id), *lives, "{id} after kill {round}");
        }
        assert!(revision >= ((round + 1) * CHANGES) as u64);
        let listed = service.admin().get("/v1/keys?limit=200").ok(200);
        let listed = listed["keys"].as_array().unwrap();
        assert!(listed.iter().all(|key| keys.contains_key(key["id"].as_str().unwrap())));
    }
}
