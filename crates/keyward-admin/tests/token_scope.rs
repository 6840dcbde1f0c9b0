//! Edge tokens that are bound to a realm and to nodes.

mod support;

use keyward_testbed::{wait, workspace};
use serde_json::{Value, json};
use support::{Client, PATIENCE, Start, service};

/// Sends a poll and a batch of usage, and returns the codes of the answers. `None` means success.
fn codes(client: &Client, headers: &[(&str, &str)]) -> [Option<String>; 2] {
    let batch = json!({ "vm": "vm-1", "seq": 1, "keys": [] }).to_string();
    let mut with_body = headers.to_vec();
    with_body.push(("content-type", "application/json"));
    let poll = client.send("GET", "/v1/manifest", headers, b"");
    let usage = client.send("POST", "/v1/usage", &with_body, batch.as_bytes());
    [poll, usage].map(|reply| match reply.status {
        200 => None,
        status => {
            let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
            reply.problem(status, &code);
            assert_eq!(status, 403, "{}", reply.text);
            Some(code)
        }
    })
}

#[test]
fn a_token_is_refused_outside_of_its_realm_and_nodes() {
    let (folder, service) = service();
    let cli = Start::new(folder.path());
    let create = ["token", "create", "gateways", "--role", "edge", "--realm", "shop", "--nodes", "gateway-*", "--json"];
    let made = cli.run(&create);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&made["realm"], &made["nodes"]), (&json!("shop"), &json!("gateway-*")));
    let client = service.client(made["token"].as_str().unwrap());
    let fits = [("x-keyward-realm", "shop"), ("x-keyward-node", "gateway-7"), ("x-keyward-vm", "vm-1")];
    wait::until("the service knows the token", PATIENCE, || {
        (client.send("GET", "/v1/manifest", &fits, b"").status == 200).then_some(())
    });
    assert_eq!(codes(&client, &fits), [None, None]);
    for (realm, node, code) in [
        ("other", "gateway-7", "token_wrong_realm"),
        ("shop", "edge-gateway-7", "token_wrong_node"),
        ("", "gateway-7", "token_wrong_realm"),
        ("shop", "", "token_wrong_node"),
    ] {
        let headers = [("x-keyward-realm", realm), ("x-keyward-node", node), ("x-keyward-vm", "vm-2")];
        assert_eq!(codes(&client, &headers), [Some(code.to_owned()), Some(code.to_owned())], "{realm} {node}");
        let detail = client.send("GET", "/v1/manifest", &headers, b"").json()["detail"].as_str().unwrap().to_owned();
        let (stated, bound) = if code == "token_wrong_realm" { (realm, "shop") } else { (node, "gateway-*") };
        assert!(detail.contains(&format!("`{stated}`")) && detail.contains(&format!("`{bound}`")), "{detail}");
    }
    // A filter that was refused is in no list, so that it does not count in receipts.
    let listed = service.admin().get("/v1/proxies").ok(200).to_string();
    assert!(listed.contains("vm-1") && !listed.contains("vm-2"), "{listed}");
    // Other tokens are bound to nothing.
    assert_eq!(codes(&service.edge(), &[]), [None, None]);

    let listed = cli.run(&["token", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed["tokens"][0]["realm"], &listed["tokens"][0]["nodes"]), (&json!("shop"), &json!("gateway-*")));
    let audit = service.admin().get("/v1/audit?action=token.create").ok(200);
    let detail = &audit["entries"][0]["detail"];
    assert_eq!((&detail["realm"], &detail["nodes"]), (&json!("shop"), &json!("gateway-*")), "{audit}");
}

#[test]
fn bounds_that_cannot_be_are_refused_with_a_reason() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path());
    drop(start.serve());
    for (args, says) in [
        (&["--role", "admin", "--realm", "shop"][..], "must be `edge`"),
        (&["--role", "edge", "--nodes", ""], "--nodes: must have 1 to 256"),
        (&["--role", "edge", "--realm", "a\"b"], "--realm: must have 1 to 100"),
    ] {
        let output = start.run(&[&["token", "create", "x"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && said.contains(says), "{said}");
    }
    let unbound = start.clone().without("KEYWARD_EDGE_TOKEN").with("KEYWARD_EDGE_TOKEN_NODES", "gateway-*");
    let output = unbound.run(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("KEYWARD_EDGE_TOKEN_NODES"), "{said}");
}

#[test]
fn the_token_of_the_environment_can_be_bound_too() {
    let folder = workspace::scratch("admin");
    let start = Start::new(folder.path()).with("KEYWARD_EDGE_TOKEN_REALM", "shop");
    let service = start.with("KEYWARD_EDGE_TOKEN_NODES", "gateway-*").serve();
    let stated = |realm, node| codes(&service.edge(), &[("x-keyward-realm", realm), ("x-keyward-node", node)]);
    assert_eq!(stated("shop", "gateway-1"), [None, None]);
    assert_eq!(stated("other", "gateway-1")[0].as_deref(), Some("token_wrong_realm"));
    assert_eq!(stated("shop", "other")[1].as_deref(), Some("token_wrong_node"));
}
