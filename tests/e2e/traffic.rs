//! Continuous traffic in which every request has an expected answer.

use keyward_testbed::{http1, wait};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A path, a key, and the expected status.
pub type Expected = (&'static str, Option<&'static str>, u16);

pub struct Traffic {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    /// Each returns the wrong answers, and the number of requests without an answer.
    threads: Vec<JoinHandle<(Vec<String>, usize)>>,
}

impl Traffic {
    /// Starts two threads that open a connection for each request, so that both workers get requests.
    pub fn start(address: SocketAddr, expected: &'static [Expected]) -> Self {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..2)
            .map(|_| {
                let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
                std::thread::spawn(move || {
                    let (mut wrong, mut unanswered) = (Vec::new(), 0);
                    while !over.load(Ordering::Relaxed) {
                        for (target, key, status) in expected {
                            let key: Vec<_> = key.map(|key| ("x-api-key", key)).into_iter().collect();
                            asked.fetch_add(1, Ordering::Relaxed);
                            match http1::get(address, target, &key) {
                                Ok(response) if response.status == *status => {}
                                Ok(response) => {
                                    wrong.push(format!("{} for {status}: {}", response.status, response.text()))
                                }
                                Err(_) => unanswered += 1,
                            }
                        }
                    }
                    (wrong, unanswered)
                })
            })
            .collect();
        Self { over, asked, threads }
    }

    /// Waits until so many requests more have been asked, however slow the machine is.
    ///
    /// # Panics
    /// Panics when they are not asked within 30 seconds.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) {
        let asked = || self.asked.load(Ordering::Relaxed);
        let wanted = asked() + requests;
        wait::until(&format!("{requests} requests more"), PATIENCE, || (asked() >= wanted).then_some(()));
    }

    /// Stops the traffic and returns the number of requests.
    ///
    /// # Panics
    /// Panics when a request got another answer.
    #[track_caller]
    pub fn stop(self) -> usize {
        let (asked, unanswered) = self.stop_while_listeners_are_replaced();
        assert_eq!(unanswered, 0, "of {asked} requests these got no answer");
        asked
    }

    /// Stops the traffic and returns the number of requests, and of those whose connection Envoy has closed without an answer,
    /// as it does now and then when it takes a listener away.
    ///
    /// # Panics
    /// Panics when a request got another answer.
    #[track_caller]
    pub fn stop_while_listeners_are_replaced(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter().map(|thread| thread.join().unwrap());
        let (wrong, unanswered): (Vec<_>, Vec<_>) = threads.unzip();
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        let asked = self.asked.load(Ordering::Relaxed);
        assert!(wrong.is_empty(), "{} of {asked} requests: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        (asked, unanswered.into_iter().sum())
    }
}
