//! Collections, records and files in memory.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::broadcast;

/// The number of changes that a slow listener may be behind before it misses some.
const EVENTS_KEPT: usize = 256;

/// The data of the API, which all requests share.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    /// Sends each change of a record.
    pub events: broadcast::Sender<Event>,
    /// The topics of each realtime client, by client id.
    pub subscriptions: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

#[derive(Default)]
struct Inner {
    /// Records by collection, in the order of their creation.
    collections: BTreeMap<String, Vec<Record>>,
    /// Files by collection, record and file name.
    files: HashMap<(String, String, String), File>,
}

type Record = Map<String, Value>;

/// An uploaded file.
#[derive(Clone)]
pub struct File {
    pub content_type: String,
    pub bytes: axum::body::Bytes,
}

/// A file that a client uploads.
pub struct Upload {
    pub field: String,
    pub name: String,
    pub file: File,
}

/// The creation, update or deletion of a record.
#[derive(Clone)]
pub struct Event {
    pub action: &'static str,
    pub collection: String,
    pub record: Record,
}

impl Store {
    /// Creates a store with two collections of sample records.
    pub fn seeded() -> Self {
        let store =
            Self { inner: Arc::default(), events: broadcast::Sender::new(EVENTS_KEPT), subscriptions: Arc::default() };
        for (title, body) in [
            ("Hello", "The first record that is behind Envoy."),
            ("Permissions", "Reading this took records:read."),
            ("Files", "Attachments are behind files:read and files:write."),
        ] {
            let fields = json!({"title": title, "body": body, "published": true});
            store.create("posts", fields.as_object().cloned().unwrap_or_default(), Vec::new());
        }
        let picture = Upload {
            field: "avatar".to_owned(),
            name: "ada.svg".to_owned(),
            file: File {
                content_type: "image/svg+xml".to_owned(),
                bytes: axum::body::Bytes::from_static(
                    br##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="3"/></svg>"##,
                ),
            },
        };
        let fields = json!({"name": "Ada", "role": "editor"});
        store.create("authors", fields.as_object().cloned().unwrap_or_default(), vec![picture]);
        store
    }

    /// Returns all records of a collection, newest last. `None` means that nothing was ever written to the collection.
    pub fn list(&self, collection: &str) -> Option<Vec<Record>> {
        self.lock().collections.get(collection).cloned()
    }

    /// Returns a record.
    pub fn get(&self, collection: &str, id: &str) -> Option<Record> {
        self.lock().collections.get(collection)?.iter().find(|record| has_id(record, id)).cloned()
    }

    /// Creates a record. It gets a new id unless it has one of the right form.
    pub fn create(&self, collection: &str, fields: Record, uploads: Vec<Upload>) -> Record {
        let id = fields.get("id").and_then(Value::as_str).filter(|id| is_id(id)).map_or_else(new_id, str::to_owned);
        let mut record = Map::new();
        record.insert("id".to_owned(), json!(id));
        record.insert("collectionName".to_owned(), json!(collection));
        let now = now();
        record.insert("created".to_owned(), json!(now));
        record.insert("updated".to_owned(), json!(now));
        let mut inner = self.lock();
        merge(&mut inner, collection, &id, &mut record, fields, uploads);
        inner.collections.entry(collection.to_owned()).or_default().push(record.clone());
        drop(inner);
        self.tell("create", collection, &record);
        record
    }

    /// Updates the given fields of a record.
    pub fn update(&self, collection: &str, id: &str, fields: Record, uploads: Vec<Upload>) -> Option<Record> {
        let mut inner = self.lock();
        let mut record = inner.collections.get(collection)?.iter().find(|record| has_id(record, id))?.clone();
        record.insert("updated".to_owned(), json!(now()));
        merge(&mut inner, collection, id, &mut record, fields, uploads);
        let records = inner.collections.get_mut(collection)?;
        *records.iter_mut().find(|record| has_id(record, id))? = record.clone();
        drop(inner);
        self.tell("update", collection, &record);
        Some(record)
    }

    /// Deletes a record and its files.
    pub fn delete(&self, collection: &str, id: &str) -> Option<()> {
        let mut inner = self.lock();
        let records = inner.collections.get_mut(collection)?;
        let at = records.iter().position(|record| has_id(record, id))?;
        let record = records.remove(at);
        inner.files.retain(|(of, record, _), _| of != collection || record != id);
        drop(inner);
        self.tell("delete", collection, &record);
        Some(())
    }

    /// Returns a file of a record.
    pub fn file(&self, collection: &str, record: &str, name: &str) -> Option<File> {
        self.lock().files.get(&(collection.to_owned(), record.to_owned(), name.to_owned())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, action: &'static str, collection: &str, record: &Record) {
        // An error means that nobody listens.
        let _ = self.events.send(Event { action, collection: collection.to_owned(), record: record.clone() });
    }
}

fn merge(inner: &mut Inner, collection: &str, id: &str, record: &mut Record, fields: Record, uploads: Vec<Upload>) {
    const OWN: [&str; 4] = ["id", "collectionName", "created", "updated"];
    record.extend(fields.into_iter().filter(|(name, _)| !OWN.contains(&name.as_str())));
    for upload in uploads {
        let name = file_name(&upload.name);
        record.insert(upload.field, json!(name));
        inner.files.insert((collection.to_owned(), id.to_owned(), name), upload.file);
    }
}

fn has_id(record: &Record, id: &str) -> bool {
    record.get("id").and_then(Value::as_str) == Some(id)
}

fn is_id(id: &str) -> bool {
    id.len() == 15 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Returns a random id of fifteen characters from a-z and 0-9.
pub fn new_id() -> String {
    random(15)
}

fn random(length: usize) -> String {
    std::iter::repeat_with(|| fastrand::char('a'..='z')).take(length).collect()
}

/// Returns the name without characters that have a meaning in paths, and with a random part that cannot be guessed.
fn file_name(name: &str) -> String {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "bin"));
    let plain = |text: &str| text.chars().filter(|character| character.is_ascii_alphanumeric()).collect::<String>();
    format!("{}_{}.{}", plain(stem), random(10), plain(extension))
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}
