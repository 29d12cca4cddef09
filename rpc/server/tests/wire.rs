//! What is answered to what, on a real socket.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::Rig;
use proptest::prelude::*;
use serde_json::{Value, json};

/// `id` and either the result or the error's code of each reply; a batch is an array of these.
fn digest(reply: &Value) -> Value {
    match reply {
        Value::Array(list) => list.iter().map(digest).collect(),
        _ => {
            assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
            let outcome = reply.get("result").unwrap_or(&reply["error"]["code"]);
            json!([reply["id"], outcome])
        }
    }
}

#[test]
fn every_kind_of_request_gets_its_answer() {
    let rig = Rig::new();
    let table: Vec<(&str, Vec<Value>)> = vec![
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, vec![json!([1, true])]),
        (r#"{"id":1,"method":"ping"}"#, vec![json!([1, true])]),
        (r#"{"id":"a\u00e9","method":"ping"}"#, vec![json!(["aé", true])]),
        (r#"{"id":18446744073709551615,"method":"ping"}"#, vec![json!([u64::MAX, true])]),
        (r#"{"id":1.5,"method":"ping"}"#, vec![json!([1.5, true])]),
        // Pretty-printed, concatenated with and without blanks.
        ("{\n  \"id\": 1,\n  \"method\": \"ping\"\n}\n", vec![json!([1, true])]),
        (
            r#"{"id":1,"method":"ping"}{"id":2,"method":"ping"} {"id":3,"method":"ping"}"#,
            vec![json!([1, true]), json!([2, true]), json!([3, true])],
        ),
        // Notifications: silence on success, errors with id null.
        (r#"{"method":"ping"}"#, vec![]),
        (r#"{"method":"ping","id":null}"#, vec![]),
        (r#"{"method":"fail"}"#, vec![json!([null, -19])]),
        (r#"{"method":"nothing"}"#, vec![json!([null, -32601])]),
        // params
        (r#"{"id":1,"method":"ping","params":null}"#, vec![json!([1, true])]),
        (r#"{"id":1,"method":"ping","params":{}}"#, vec![json!([1, -32602])]),
        (r#"{"id":1,"method":"ping","params":[]}"#, vec![json!([1, -32602])]),
        (r#"{"id":1,"method":"ping","params":7}"#, vec![json!([1, -32600])]),
        (r#"{"id":1,"method":"ping","params":"x"}"#, vec![json!([1, -32600])]),
        (r#"{"id":1,"method":"echo","params":{"value":[1,{"a":null}]}}"#, vec![json!([1, [1, {"a": null}]])]),
        (r#"{"id":1,"method":"echo","params":{"valu":1}}"#, vec![json!([1, -32603])]),
        (r#"{"id":1,"method":"echo"}"#, vec![json!([1, -32603])]),
        (r#"{"id":1,"method":"echo","params":{"value":1,"value":2}}"#, vec![json!([1, -32603])]),
        // The envelope.
        (r#"{"id":1,"method":"ping","extra":1}"#, vec![json!([null, -32600])]),
        (r#"{"id":1,"id":2,"method":"ping"}"#, vec![json!([null, -32600])]),
        (r#"{"id":1}"#, vec![json!([null, -32600])]),
        (r#"{}"#, vec![json!([null, -32600])]),
        (r#"{"id":1,"method":7}"#, vec![json!([1, -32600])]),
        (r#"{"id":1,"method":null}"#, vec![json!([1, -32600])]),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, vec![json!([1, -32600])]),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, vec![json!([1, -32600])]),
        (r#"{"jsonrpc":null,"id":1,"method":"ping"}"#, vec![json!([1, -32600])]),
        (r#"{"id":{},"method":"ping"}"#, vec![json!([null, -32600])]),
        (r#"{"id":[1],"method":"ping"}"#, vec![json!([null, -32600])]),
        (r#"{"id":true,"method":"ping"}"#, vec![json!([null, -32600])]),
        ("7 ", vec![json!([null, -32600])]),
        (r#""ping""#, vec![json!([null, -32600])]),
        ("null", vec![json!([null, -32600])]),
        // Batches.
        ("[]", vec![json!([null, -32600])]),
        ("[1]", vec![json!([[null, -32600]])]),
        ("[[]]", vec![json!([[null, -32600]])]),
        (
            r#"[{"id":1,"method":"ping"},{"method":"ping"},{"id":2,"method":"fail"},{"method":"fail"}]"#,
            vec![json!([[1, true], [2, -19], [null, -19]])],
        ),
        (r#"[{"method":"ping"},{"method":"ping"}]"#, vec![]),
        (r#"[{"method":"ping"}] {"id":9,"method":"ping"}"#, vec![json!([9, true])]),
        // Phase, unknown method, failing handlers: the connection lives.
        (r#"{"id":1,"method":"late"}{"id":2,"method":"ping"}"#, vec![json!([1, -1]), json!([2, true])]),
        (r#"{"id":1,"method":"pong"}{"id":2,"method":"ping"}"#, vec![json!([1, -32601]), json!([2, true])]),
        (r#"{"id":1,"method":"panic"}{"id":2,"method":"ping"}"#, vec![json!([1, -32603]), json!([2, true])]),
    ];
    for (sent, expect) in table {
        let client = rig.client();
        client.send(sent);
        let text = client.finish();
        assert!(text.is_ascii() && (text.is_empty() || text.ends_with('\n')), "{sent}: {text}");
        let got: Vec<Value> =
            text.lines().map(|line| digest(&serde_json::from_str(line).expect("a reply"))).collect();
        assert_eq!(got, expect, "{sent}: {text}");
    }
}

#[test]
fn the_bytes_of_a_reply_are_spdks() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.send(r#"{"jsonrpc":"2.0","id":1.50,"method":"ping"}"#);
    assert_eq!(client.line(), "{\"jsonrpc\":\"2.0\",\"id\":1.50,\"result\":true}\n");
    client.send(r#"{"id":"é","method":"fail"}"#);
    let expect = "{\"jsonrpc\":\"2.0\",\"id\":\"\\u00e9\",\"error\":{\"code\":-19,\"message\":\"No such device: no such thing: \\u00e9\"}}\n";
    assert_eq!(client.line(), expect);
}

#[test]
fn what_is_not_json_ends_the_connection_after_one_answer() {
    let rig = Rig::new();
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let many = format!("[{}1]", "1,".repeat(8191));
    let long = format!("{{\"id\":1,\"method\":\"{}\"}}", "x".repeat(300 << 10));
    let table: Vec<(&[u8], &str)> = vec![
        (b"hello", "not JSON"),
        (b"{\"id\":1,\"method\":\"ping\"} // comment", "not JSON"),
        (b"{\"id\":1,\"method\":\"ping\",}", "not JSON"),
        (b"\0\0\0\0", "not JSON"),
        (b"GET / HTTP/1.1\r\n", "not JSON"),
        (b"\"\xff\"", "UTF-8"),
        (br#"{"id":"\ud800","method":"ping"}"#, "not JSON"),
        (deep.as_bytes(), "deeper than 64 levels"),
        (many.as_bytes(), "more than 8192 values"),
        (long.as_bytes(), "longer than 262144 bytes"),
    ];
    for (sent, expect) in table {
        let client = rig.client();
        client.try_send(sent);
        // The client does not close its side: the server must.
        let text = client.rest();
        let last: Value = serde_json::from_str(text.lines().last().expect("an answer")).expect("a reply");
        assert_eq!((&last["id"], &last["error"]["code"]), (&Value::Null, &json!(-32700)), "{last}");
        assert!(last["error"]["message"].as_str().expect("text").contains(expect), "{last}");
    }
    assert_eq!(rig.client().call(r#"{"id":1,"method":"ping"}"#)["result"], true);
}

#[test]
fn a_request_of_256_kib_is_served() {
    let rig = Rig::new();
    let frame = r#"{"id":1,"method":"echo","params":{"value":""}}"#;
    let text = "x".repeat(rpc_server::REQUEST_BYTES_MAX - frame.len());
    let mut client = rig.client();
    let reply = client.call(&frame.replace("\"\"", &format!("\"{text}\"")));
    assert_eq!(reply["result"], text);
}

#[test]
fn a_result_over_32_mib_is_an_error_alone_and_in_a_batch() {
    let rig = Rig::new();
    let mut client = rig.client();
    assert_eq!(
        client.call(r#"{"id":1,"method":"big","params":{"bytes":34000000}}"#)["error"]["code"],
        -32603
    );
    let one = r#"{"id":2,"method":"big","params":{"bytes":20000000}}"#;
    let replies = client.call(&format!("[{one},{one},{{\"id\":3,\"method\":\"ping\"}}]"));
    assert_eq!(replies[0]["result"].as_str().map(str::len), Some(20_000_000));
    assert_eq!((&replies[1]["id"], &replies[1]["error"]["code"]), (&json!(2), &json!(-32603)));
    assert_eq!(replies[2]["result"], true);
}

#[test]
fn only_allowed_methods_exist() {
    let rig = Rig::with(|config| config.allowed = Some(vec!["ping".to_owned(), "no_such".to_owned()]));
    let mut client = rig.client();
    assert_eq!(client.call(r#"{"id":1,"method":"ping"}"#)["result"], true);
    assert_eq!(client.call(r#"{"id":1,"method":"echo","params":{"value":1}}"#)["error"]["code"], -32601);
}

const REQUESTS: &str = concat!(
    r#"{"id":1,"method":"echo","params":{"value":["é\ud834\udd1e\"\\",1.5e3,{"a":[true,null]}]}}"#,
    "\n[ {\"id\":2,\"method\":\"ping\"}, 7 ]{\"id\":3,\"method\":\"pong\"} 12 \"x\"{\"extra\":1}\t",
    r#"{"id":"4","method":"ping","params":{}}{"id":5,"method":"ping"} oops"#,
);

fn pieces(bytes: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn a_stream_cut_once_at_any_byte_gives_the_same_answers_on_a_socket() {
    let rig = Rig::new();
    let run = |cut: usize| {
        let client = rig.client();
        for piece in pieces(REQUESTS.as_bytes(), vec![cut]) {
            client.try_send(piece);
        }
        client.finish()
    };
    let whole = run(0);
    assert_eq!(whole.lines().count(), 9, "{whole}");
    for cut in 1..REQUESTS.len() {
        assert_eq!(run(cut), whole, "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_gives_the_same_answers(cuts in prop::collection::vec(0..REQUESTS.len(), 0..12)) {
        let whole = rpc_server::fuzz::replies([REQUESTS.as_bytes()]);
        prop_assert_eq!(rpc_server::fuzz::replies(pieces(REQUESTS.as_bytes(), cuts)), whole);
    }

    #[test]
    fn any_bytes_are_answered_the_same_whole_and_byte_by_byte(data in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[\\[\\]{},:\" 0-9a-z.\\-\\\\]{0,60}".prop_map(String::into_bytes),
    ]) {
        rpc_server::fuzz::request(&data);
    }
}
