//! Keys that are computed from their number.

use keyward_policy::manifest::LiveKey;
use keyward_testbed::admin_stand_in::AdminStandIn;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

/// Returns key `number`, which is as long as those of the admin service (45 characters).
pub fn key(number: u32) -> String {
    let digits: String = hex::encode(Sha256::digest(number.to_le_bytes())).chars().take(42).collect();
    format!("kw_{digits}")
}

/// Returns the permissions of key `number`. All keys may read and write records; every tenth may not read files.
pub fn permissions(number: u32) -> &'static [&'static str] {
    if number.is_multiple_of(10) {
        &["records:read", "records:write"]
    } else {
        &["records:read", "records:write", "files:read"]
    }
}

/// Returns the record of key `number` for the plugin configuration.
pub fn record(number: u32) -> Value {
    json!({
        "id": id(number),
        "name": name(number),
        "sha256": hex::encode(Sha256::digest(key(number))),
        "permissions": permissions(number),
        "expires_at": "2099-01-01T00:00:00Z",
    })
}

/// Returns the id of key `number`, in the form of the admin service's ids.
pub fn id(number: u32) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(number.to_be_bytes());
    let body: String = digest.iter().take(16).map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    format!("key_{body}")
}

/// Returns the name of key `number`, which has twelve characters.
pub fn name(number: u32) -> String {
    format!("name{number:08}")
}

/// Starts a stand-in for the admin service with keys `0..count`, whose pages are as large as the filter asks for.
pub fn serve(count: u32) -> AdminStandIn {
    let stand_in = AdminStandIn::with_pages_of(usize::MAX);
    stand_in.put_all((0..count).map(live));
    stand_in
}

/// Returns key `number` as the manifest carries it.
fn live(number: u32) -> LiveKey<'static> {
    let record = record(number);
    let text = |field: &str| -> Cow<'static, str> {
        record.get(field).and_then(Value::as_str).unwrap_or_default().to_owned().into()
    };
    LiveKey {
        // The stand-in assigns the revisions.
        revision: 0,
        id: text("id"),
        name: text("name"),
        sha256: text("sha256"),
        permissions: permissions(number).iter().map(|name| (*name).into()).collect(),
        expires_at: Some(text("expires_at")),
        disabled: false,
        must: Vec::new(),
    }
}
