//! Many requests, as fast as they go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::client::{HttpClient, RequestBuilder};

/// Sends a fixed number of requests over a fixed number of connections; each connection has one
/// request under way at a time.
pub struct Load {
    client: HttpClient,
    requests: usize,
    connections: usize,
}

impl Load {
    /// A load of 1,000 requests over 8 connections, to where `client` points and as it speaks.
    pub fn new(client: &HttpClient) -> Self {
        Self {
            client: client.clone(),
            requests: 1_000,
            connections: 8,
        }
    }

    /// How many requests to send in all.
    pub fn requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// Over how many connections.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sends the requests that `make` builds from their number, counted from 0.
    ///
    /// # Panics
    ///
    /// When a request gets no whole reply.
    pub async fn run<F>(self, make: F) -> LoadReport
    where
        F: Fn(&HttpClient, usize) -> RequestBuilder + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        let next = Arc::new(AtomicUsize::new(0));
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            // A client of its own is a connection of its own.
            let client = self.client.fresh();
            let (make, next) = (make.clone(), next.clone());
            connections.spawn(async move {
                let mut replies = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= self.requests {
                        return replies;
                    }
                    let reply = make(&client, index).send().await;
                    replies.push((index, reply.status.as_u16()));
                }
            });
        }
        let mut statuses = vec![0; self.requests];
        while let Some(replies) = connections.join_next().await {
            for (index, status) in replies.expect("every request of the load gets a reply") {
                statuses[index] = status;
            }
        }
        LoadReport { statuses }
    }
}

/// What a load got back.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// The status of each request, by its number.
    pub statuses: Vec<u16>,
}

impl LoadReport {
    /// How many replies had this status.
    pub fn count(&self, status: u16) -> usize {
        self.statuses.iter().filter(|seen| **seen == status).count()
    }

    /// How many replies had each status.
    pub fn by_status(&self) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for status in &self.statuses {
            *counts.entry(*status).or_default() += 1;
        }
        counts
    }
}
