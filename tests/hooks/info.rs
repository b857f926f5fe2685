//! What a handler sees of its call, while it answers at once, while it waits, and afterwards.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringcall::{Context, Engine, Reply, Server, ServiceDescriptor, Status};

use crate::rig::on_both_engines;

/// What a handler has seen of its call.
#[ringcall::message]
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub method: String,
    pub fingerprint: u64,
    pub idempotent: bool,
    pub id: u64,
    pub peer: String,
    pub transport: String,
    pub left_us: Option<u64>,
}

#[ringcall::service(name = "info.v1")]
trait Info {
    /// Answers at once.
    #[idempotent]
    async fn at_once() -> Seen;
    /// Answers when it has waited; gives what it saw before, and what it sees then.
    async fn later() -> Vec<Seen>;
    /// Looks again at the context that the last call of `later` has left.
    async fn kept() -> Option<Seen>;
}

#[derive(Default)]
struct Looks {
    /// Cloned while the call was handled at once.
    kept: RefCell<Option<Context>>,
}

fn seen(cx: &Context) -> Seen {
    let call = cx.call();
    let method = call.method();
    Seen {
        method: method.name.to_owned(),
        fingerprint: method.fingerprint,
        idempotent: method.idempotent,
        id: call.id(),
        peer: call.peer().to_owned(),
        transport: call.transport().to_string(),
        left_us: call.remaining().map(|left| left.as_micros() as u64),
    }
}

impl InfoHandler for Looks {
    async fn at_once(&self, cx: &Context) -> Result<Reply<Seen>, Status> {
        assert_eq!(
            cx.call().deadline().is_some(),
            cx.call().remaining().is_some()
        );
        Ok(seen(cx).into())
    }

    async fn later(&self, cx: &Context) -> Result<Reply<Vec<Seen>>, Status> {
        let call = cx.call();
        let before = seen(cx);
        let (copy, told) = (call.clone(), Rc::new(RefCell::new(None)));
        *self.kept.borrow_mut() = Some(cx.clone());
        // It looks when nothing is lent to it any more.
        let later = Rc::clone(&told);
        let shard = cx.shard();
        cx.spawn(async move {
            shard.sleep(Duration::from_micros(1)).await;
            *later.borrow_mut() = Some(format!("{:?} {}", copy.method(), copy.id()));
        });
        while told.borrow().is_none() {
            cx.sleep(Duration::from_micros(1)).await;
        }
        // The reference outlives the wait.
        let text = format!("{:?} {}", call.method(), call.id());
        assert_eq!(told.take(), Some(text));
        Ok(vec![before, seen(cx)].into())
    }

    async fn kept(&self, _cx: &Context) -> Result<Reply<Option<Seen>>, Status> {
        Ok(self.kept.borrow().as_ref().map(seen).into())
    }
}

fn owned(seen: &ArchivedSeen) -> Seen {
    Seen {
        method: seen.method.as_str().to_owned(),
        fingerprint: seen.fingerprint.to_native(),
        idempotent: seen.idempotent,
        id: seen.id.to_native(),
        peer: seen.peer.as_str().to_owned(),
        transport: seen.transport.as_str().to_owned(),
        left_us: seen.left_us.as_ref().map(|us| us.to_native()),
    }
}

fn handlers_see_their_call(engine: Engine) {
    let server = Server::builder()
        .listen("tcp://127.0.0.1:0")
        .listen(format!(
            "unix:@ringcall-info-{}-{engine:?}",
            std::process::id()
        ))
        .shards(1.try_into().expect("not zero"))
        .pinned(false)
        .engine(engine)
        .serve(|_| InfoServer::new(Looks::default()))
        .expect("starts");
    let client = InfoClient::connect_blocking(&server.addresses()[0]).expect("connects");
    let descriptor: &ServiceDescriptor = InfoServer::<Looks>::DESCRIPTOR;

    let first = owned(&client.at_once().wait().expect("answers"));
    let method = descriptor.methods[0];
    assert_eq!(first.method, "info.v1/at_once");
    assert_eq!(
        (first.fingerprint, first.idempotent),
        (method.fingerprint, true)
    );
    assert!(first.peer.starts_with("127.0.0.1:"), "{first:?}");
    assert_eq!(first.left_us, None);
    assert_eq!(first.transport, "tcp");
    let beside = InfoClient::connect_blocking(&server.addresses()[1]).expect("connects");
    let local = owned(&beside.at_once().wait().expect("answers"));
    assert_eq!([&*local.peer, &*local.transport], ["unix", "unix"]);

    let minute = Duration::from_secs(60);
    let answer = client.later().deadline(minute).wait().expect("answers");
    let [before, after] = [&answer[0], &answer[1]].map(owned);
    assert_eq!(before.method, "info.v1/later");
    assert!(!before.idempotent && before.id > first.id);
    let (left_before, left_after) = (before.left_us, after.left_us);
    assert!(left_after < left_before && left_before <= Some(60_000_000));
    assert!(left_after > Some(30_000_000), "{after:?}");
    let untimed = |seen: Seen| Seen {
        left_us: None,
        ..seen
    };
    assert_eq!(untimed(before.clone()), untimed(after));

    // A clone goes on telling of its own call.
    let kept = client.kept().wait().expect("answers");
    let kept = owned(kept.as_ref().expect("it was kept"));
    assert!(kept.left_us < left_after);
    assert_eq!(untimed(kept), untimed(before));
}

on_both_engines!(handlers_see_their_call);
