//! The document's tables of kinds, codes, reasons and limits.

use ringcall::__private::wire::header::Kind;
use ringcall::__private::wire::limits;
use ringcall::__private::wire::violation::{REASONS, Violation};
use ringcall::Code;

use super::vectors::DOCUMENT;

#[test]
fn the_tables_have_the_numbers_of_the_code() {
    let mut rows = Vec::new();
    for reason in 0..REASONS as u16 {
        rows.push(format!(
            "| {reason} | `{}` |",
            Violation::reason_name(reason)
        ));
    }
    for &code in Code::ALL {
        rows.push(format!("| {} | `{code}` |", code as u16));
    }
    use Kind::*;
    for kind in [
        Hello, Welcome, Resolve, Resolved, Request, Response, Error, Cancel, Ping, Pong, Goaway,
    ] {
        let name = format!("{kind:?}").to_uppercase();
        rows.push(format!("| {} | {name} |", kind as u8));
    }
    rows.extend(limit_rows());
    for row in rows {
        assert!(DOCUMENT.contains(&row), "the document lacks {row}");
    }
}

fn limit_rows() -> Vec<String> {
    use limits::*;
    let ours = Limits::default();
    let (kib, mib) = (|bytes: usize| bytes >> 10, |bytes: usize| bytes >> 20);
    let payload = mib(ours.payload_bytes_max as usize);
    let control = kib(CONTROL_BYTES_MAX as usize);
    let ceiling = PAYLOAD_BYTES_CEILING >> 30;
    let mut rows = vec![
        format!("| Header | | {HEADER_BYTES} bytes |"),
        format!("| Alignment of frames | | {FRAME_ALIGN} bytes |"),
        format!("| `payload_bytes_max` | {payload} MiB; from {control} KiB to {ceiling} GiB |"),
        format!("| Payload of every other kind | | {control} KiB |"),
        format!(
            "| `calls_in_flight_max` | {}; at least 1 |",
            ours.calls_in_flight_max
        ),
        format!(
            "| `request_bytes_in_flight_max` | {} MiB; at least 1 byte |",
            mib(ours.request_bytes_in_flight_max)
        ),
        format!("| Methods of a server | | {METHODS_MAX} |"),
        format!("| Methods in one RESOLVE, and in one service | | {RESOLVE_METHODS_MAX} |"),
        format!("| Name of a method | | {METHOD_NAME_BYTES_MAX} bytes |"),
        format!("| RESOLVE frames of a connection | | {RESOLVES_PER_CONNECTION_MAX} |"),
        format!(
            "| PING frames | | {PINGS_PER_WINDOW_MAX} in {} s |",
            PING_WINDOW.as_secs()
        ),
        format!(
            "| PONG and GOAWAY frames together | | {PINGS_PER_WINDOW_MAX} in {} s |",
            PING_WINDOW.as_secs()
        ),
        format!("| CANCEL frames | | {CANCELS_BEYOND_REQUESTS_MAX} more than"),
        format!("| Message of ERROR and GOAWAY | | {STATUS_MESSAGE_BYTES_MAX} bytes |"),
        format!(
            "| Details of ERROR | | {} KiB |",
            kib(STATUS_DETAILS_BYTES_MAX)
        ),
        format!(
            "| Nesting of an archive (14.3) | | {} levels |",
            NESTING_LEVELS_MAX
        ),
        format!(
            "| `write_queue_bytes_high` | {} KiB |",
            kib(ours.write_queue_bytes_high)
        ),
        format!(
            "| `write_queue_bytes_max` | {} MiB |",
            mib(ours.write_queue_bytes_max)
        ),
        format!(
            "| `body_grace`, `body_rate_min` | {} s, {} bytes/s |",
            ours.body_grace.as_secs(),
            ours.body_rate_min
        ),
    ];
    for (name, time) in [
        ("handshake_timeout", ours.handshake_timeout),
        ("header_timeout", ours.header_timeout),
        ("body_patience", ours.body_patience),
        ("keepalive_interval", ours.keepalive_interval),
        ("keepalive_timeout", ours.keepalive_timeout),
        ("write_stall_timeout", ours.write_stall_timeout),
    ] {
        rows.push(format!("| `{name}` | {} s |", time.as_secs()));
    }
    rows
}
