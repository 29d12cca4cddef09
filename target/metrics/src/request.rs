//! What a client may ask, and what it is answered. Pure: bytes in, a decision out.

use crate::text::CONTENT_TYPE;

/// Headers of a request at most.
const HEADERS_MAX: usize = 64;

/// Where the page is.
const PATH: &str = "/metrics";

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The page, or its head alone.
    Page { head_only: bool },
    /// A few words with this status.
    Words(Status),
}

/// An HTTP status other than 200 (RFC 9110, 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    HeaderTooLarge,
    Unavailable,
    VersionNotSupported,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::HeaderTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Status::BadRequest => "this is no HTTP/1 request\n",
            Status::NotFound => "nothing is here: figures for Prometheus are at /metrics\n",
            Status::MethodNotAllowed => "accepted: GET and HEAD\n",
            Status::RequestTimeout => "the request did not come in time\n",
            Status::HeaderTooLarge => "the request is too long\n",
            Status::Unavailable => "too many connections are open: try again\n",
            Status::VersionNotSupported => "accepted: HTTP/1.0 and HTTP/1.1\n",
        }
    }
}

/// What to answer to a request of which `bytes` have come; none while its head is not complete.
pub(crate) fn judge(bytes: &[u8]) -> Option<Reply> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let words = |status| Some(Reply::Words(status));
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return words(Status::HeaderTooLarge),
        Err(httparse::Error::Version) => return words(Status::VersionNotSupported),
        Err(_) => return words(Status::BadRequest),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return words(Status::BadRequest);
    };
    let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host")).count();
    // RFC 9112, 3.2: exactly one with HTTP/1.1.
    if hosts > 1 || (hosts == 0 && request.version == Some(1)) {
        return words(Status::BadRequest);
    }
    if path_of(target) != PATH {
        return words(Status::NotFound);
    }
    match method {
        "GET" => Some(Reply::Page { head_only: false }),
        "HEAD" => Some(Reply::Page { head_only: true }),
        _ => words(Status::MethodNotAllowed),
    }
}

/// The path of a request's target, which may be a whole URL (RFC 9112, 3.2.2), without its query.
fn path_of(target: &str) -> &str {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    target.split('?').next().unwrap_or_default()
}

/// The whole answer; `page` is made only where it is asked for.
pub(crate) fn answer(reply: Reply, page: impl FnOnce() -> String) -> Vec<u8> {
    match reply {
        Reply::Page { head_only } => whole("200 OK", "", CONTENT_TYPE, &page(), head_only),
        Reply::Words(status) => {
            let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
            whole(status.line(), allow, "text/plain; charset=utf-8", status.words(), false)
        }
    }
}

fn whole(status: &str, more: &str, content_type: &str, body: &str, head_only: bool) -> Vec<u8> {
    let length = body.len();
    let body = if head_only { "" } else { body };
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Type: {content_type}\r\nContent-Length: {length}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: Reply = Reply::Page { head_only: false };

    #[test]
    fn what_prometheus_and_curl_send_is_answered_with_the_page() {
        for head in [
            "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /metrics HTTP/1.0\r\n\r\n",
            "GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\nAccept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n",
            "GET http://127.0.0.1:9110/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(judge(head.as_bytes()), Some(PAGE), "{head}");
            for cut in 0..head.len() {
                assert_eq!(judge(&head.as_bytes()[..cut]), None, "{:?}", &head[..cut]);
            }
        }
        let head = "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(judge(head.as_bytes()), Some(Reply::Page { head_only: true }));
    }

    #[test]
    fn everything_else_is_refused_with_its_status() {
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        for (head, status) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Status::NotFound),
            ("GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n", Status::NotFound),
            ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Status::NotFound),
            ("POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Status::MethodNotAllowed),
            ("GET /metrics HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET /metrics HTTP/2.0\r\n\r\n", Status::VersionNotSupported),
            ("GET /metrics\r\n\r\n", Status::BadRequest),
            ("\u{1}\u{2}\r\n\r\n", Status::BadRequest),
            ("{\"jsonrpc\":\"2.0\"}\r\n\r\n", Status::BadRequest),
            (&many, Status::HeaderTooLarge),
        ] {
            assert_eq!(judge(head.as_bytes()), Some(Reply::Words(status)), "{head}");
        }
    }

    #[test]
    fn answers_tell_their_length_and_the_head_alone_has_no_body() {
        let text = |reply| String::from_utf8(answer(reply, || "abc".to_owned())).expect("text");
        let page = text(PAGE);
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nabc"), "{page}");
        let head = text(Reply::Page { head_only: true });
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let refused = text(Reply::Words(Status::MethodNotAllowed));
        assert!(refused.contains("\r\nAllow: GET, HEAD\r\n") && !refused.contains("abc"), "{refused}");
    }

    proptest! {
        #[test]
        fn once_it_is_decided_more_bytes_change_nothing(
            head in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                "(GET|PUT) /(metrics)?( HTTP/1\\.[01])?(\r\n|\n)((Host|a): ?[a-z]{0,3}(\r\n|\n)){0,3}(\r\n|\n)?".prop_map(String::into_bytes),
            ],
            more in proptest::collection::vec(any::<u8>(), 0..16),
        ) {
            let decided = judge(&head);
            if decided.is_some() {
                let longer: Vec<u8> = head.iter().chain(&more).copied().collect();
                prop_assert_eq!(judge(&longer), decided);
            }
        }
    }
}
