//! The service across a process boundary looks the same to a client.

use std::{pin::Pin, sync::Arc};

use envd_agents::service::{
    Answer, Call, Failure, Owner, Service,
    remote::{Channel, Remote, carry_out},
};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    ground::Ground,
    wire::{Wire, text},
};

/// A channel that is text on the way, as on a socket.
struct Text(Arc<Fake>);

impl Channel for Text {
    fn exchange<'a>(
        &'a self,
        call: &'a Call,
        method: &'static str,
        request: Value,
    ) -> Answer<'a, Value> {
        Box::pin(async move {
            let request = request.to_string();
            let request = serde_json::from_str(&request).expect("it was written as JSON");
            let answer = carry_out(&*self.0, call, method, request).await;
            let answer = serde_json::to_string(&answer).expect("plain data");
            serde_json::from_str::<Result<Value, Failure>>(&answer).expect("it was written as JSON")
        })
    }

    fn release<'a>(&'a self, owner: &'a Owner) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.0.release(owner)
    }
}

#[tokio::test]
async fn results_failures_events_and_bytes_come_over() {
    let ground = Ground::new();
    let mut wire = Wire::to(Arc::new(Remote(Text(ground.fake.clone()))));
    wire.initialize("2025-11-25").await;
    let environment = wire.create().await;
    let command = "cat README; until test -e go; do sleep 0.02; done; \
                   head -c 300 /dev/zero | tr '\\0' '\\377' >&2; exit 5";
    let id = wire
        .send(
            "tools/call",
            json!({
                "name": "command_run",
                "arguments": {"environment": environment, "command": command},
                "_meta": {"progressToken": 1},
            }),
        )
        .await;
    let event = wire.receive().await.expect("events come over");
    assert_eq!(event["params"]["message"], "a project\n");
    wire.done(
        "file_write",
        json!({"environment": environment, "path": "go", "content": ""}),
    )
    .await;
    let answer = wire.answer(id).await;
    let ran = &answer["result"]["structuredContent"];
    assert_eq!(ran["exit_code"], 5, "{answer}");
    assert_eq!(ran["stdout"]["head"], "a project\n");
    let read = wire
        .request("resources/read", json!({"uri": ran["stderr"]["resource"]}))
        .await;
    let blob = read["result"]["contents"][0]["blob"].as_str();
    assert_eq!(
        blob.expect("bytes").trim_end_matches('/').len(),
        0,
        "not 0xFF all through"
    );
    let result = wire
        .call("environment_create", json!({"from": {"packages": ["gc"]}}))
        .await;
    assert!(text(&result).contains("Did you mean gcc?"), "{result}");
    assert_eq!(result["_meta"]["envd/failure"]["code"], "no_such_package");
    wire.close().await.expect("an orderly end");
    ground.assert_empty();
}

#[tokio::test]
async fn a_method_that_is_not_there_is_a_failure() {
    let ground = Ground::new();
    let call = Call::quiet(Owner::random());
    let failure = carry_out(&*ground.fake, &call, "environment_explode", json!({}))
        .await
        .expect_err("there is none");
    assert!(
        failure.to_string().contains("environment_explode"),
        "{failure}"
    );
}
