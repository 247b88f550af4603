//! Cross-origin resource sharing (CORS), for senders in browsers.
//!
//! It does what the Collector does (rs/cors): origins are allowed by name or with one `*`, preflights are answered directly, and pages
//! that are not allowed get no header, which browsers treat as a refusal. If every page may send, the answer is `*`, so that browsers
//! send none of their own credentials (cookies, a cached login, a certificate).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::body::Answer;
use super::config::CorsConfig;

/// Headers that are always allowed.
const ALWAYS: [&str; 5] = ["accept", "accept-language", "content-language", "content-type", "origin"];
/// A header that is allowed if none is configured.
const BY_DEFAULT: &str = "x-requested-with";

/// The pages that may send, and their headers.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<Pattern>,
    /// In lower case; `*` is any.
    headers: Vec<String>,
    max_age: u64,
}

/// An origin in lower case, or the text before and after its `*`.
#[derive(Debug)]
enum Pattern {
    Exact(String),
    Wildcard(String, String),
}

impl Cors {
    /// `None` if no page may send.
    pub(super) fn new(config: &CorsConfig) -> Option<Self> {
        let origins: Vec<_> = config.allowed_origins.iter().map(|origin| Pattern::new(origin)).collect();
        let mut headers: Vec<_> =
            config.allowed_headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        if headers.is_empty() {
            headers.push(BY_DEFAULT.to_owned());
        }
        (!origins.is_empty()).then_some(Self { origins, headers, max_age: config.max_age.0.as_secs() })
    }

    /// The answer to a preflight; `None` for other requests.
    pub(super) fn preflight(&self, head: &Parts) -> Option<Response<Answer>> {
        let method =
            head.headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| head.method == Method::OPTIONS)?;
        let mut response = Response::new(Answer::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(
            VARY,
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(origin) = self.allowed(&head.headers)
            && method.as_bytes() == b"POST"
            && asked.is_none_or(|names| self.allows(names))
        {
            allow(headers, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
            asked.map(|names| headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone()));
            if self.max_age > 0 {
                headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.into());
            }
        }
        Some(response)
    }

    /// The origin of a request if it is allowed; `*` if every origin is.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let name = origin.to_str().ok()?.to_ascii_lowercase();
        let mut fitting = self.origins.iter().filter(|pattern| pattern.is_of(&name)).peekable();
        fitting.peek()?;
        Some(if fitting.all(Pattern::is_of_every_host) {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        })
    }

    /// Whether all of these headers may be sent.
    fn allows(&self, names: &HeaderValue) -> bool {
        let allowed = |name: &str| {
            let name = name.trim().to_ascii_lowercase();
            name.is_empty()
                || ALWAYS.contains(&&*name)
                || self.headers.iter().any(|header| *header == name || header == "*")
        };
        names.to_str().is_ok_and(|names| names.split(',').all(allowed))
    }
}

/// Adds the CORS headers to an answer; `origin` is the allowed one.
pub(super) fn mark(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        allow(headers, origin);
        // Without this, a page cannot see when to retry.
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    }
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    if origin != "*" {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

impl Pattern {
    fn new(origin: &str) -> Self {
        let origin = origin.to_ascii_lowercase();
        match origin.split_once('*') {
            Some((before, behind)) => Self::Wildcard(before.to_owned(), behind.to_owned()),
            None => Self::Exact(origin),
        }
    }

    /// Whether it allows every host.
    fn is_of_every_host(&self) -> bool {
        let any =
            |before: &String| ["http://", "https://"].iter().any(|scheme| scheme.starts_with(&**before));
        matches!(self, Self::Wildcard(before, behind) if behind.is_empty() && any(before))
    }

    fn is_of(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => origin == exact,
            // The text before the star and the text after it must not overlap.
            Self::Wildcard(before, behind) => {
                origin.strip_prefix(&**before).is_some_and(|rest| rest.ends_with(&**behind))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::values::duration::GoDuration;

    fn cors(origins: &[&str], headers: &[&str]) -> Cors {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let config = CorsConfig {
            allowed_origins: owned(origins),
            allowed_headers: owned(headers),
            max_age: GoDuration::seconds(600),
        };
        Cors::new(&config).unwrap()
    }

    fn preflight(cors: &Cors, method: &str, names: Option<&str>) -> HeaderMap {
        let mut request = Request::options("/v1/logs")
            .header(ORIGIN, "https://shop.example")
            .header(ACCESS_CONTROL_REQUEST_METHOD, method);
        if let Some(names) = names {
            request = request.header(ACCESS_CONTROL_REQUEST_HEADERS, names);
        }
        let response = cors.preflight(&request.body(()).unwrap().into_parts().0).unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert!(response.headers()[VARY].to_str().unwrap().starts_with("Origin"));
        response.headers().clone()
    }

    #[test]
    fn origins_are_allowed_by_name_or_by_a_star() {
        for (allowed, origin, expected) in [
            ("https://shop.example", "https://shop.example", true),
            ("https://Shop.example", "https://shop.EXAMPLE", true),
            ("https://shop.example", "https://shop.example:8443", false),
            ("https://shop.example", "http://shop.example", false),
            ("*", "null", true),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://evil.test/.example", true),
            ("https://*.example", "https://.example.test", false),
            ("http://localhost:*", "http://localhost:3000", true),
            ("https://a*a.example", "https://a.example", false),
        ] {
            let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_str(origin).unwrap())]);
            let found = cors(&[allowed], &[]).allowed(&headers);
            assert_eq!(found.is_some(), expected, "{allowed} {origin}");
        }
        assert_eq!(cors(&["*"], &[]).allowed(&HeaderMap::new()), None, "no page has sent it");
        assert!(Cors::new(&CorsConfig::default()).is_none());
    }

    #[test]
    fn a_preflight_tells_what_may_be_sent() {
        let only = cors(&["https://shop.example"], &["X-Tenant"]);
        for (method, names, expected) in [
            ("POST", None, true),
            ("POST", Some("content-type"), true),
            ("POST", Some("Content-Type, x-tenant"), true),
            ("POST", Some("x-requested-with"), false),
            ("POST", Some("content-type,authorization"), false),
            ("PUT", None, false),
        ] {
            let headers = preflight(&only, method, names);
            let origin = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap());
            assert_eq!(origin, expected.then_some("https://shop.example"), "{method} {names:?}");
            let allowed = headers.get(ACCESS_CONTROL_ALLOW_HEADERS).map(|names| names.to_str().unwrap());
            assert_eq!(allowed, names.filter(|_| expected), "{method} {names:?}");
            assert_eq!(headers.get(ACCESS_CONTROL_MAX_AGE).is_some_and(|age| age == "600"), expected);
        }
        let all = preflight(&cors(&["*"], &["*"]), "POST", Some("authorization, x-anything"));
        assert!(all.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let usual = preflight(&cors(&["*"], &[]), "POST", Some("x-requested-with"));
        assert!(usual.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let other = preflight(&cors(&["https://other.example"], &[]), "POST", None);
        assert_eq!(other.len(), 1, "nothing but Vary: {other:?}");
    }

    #[test]
    fn no_credentials_are_asked_for_where_every_page_may_send() {
        for (allowed, expected) in [
            (&["*"][..], "*"),
            (&["https://*"], "*"),
            (&["http*"], "*"),
            (&["*", "https://shop.example"], "https://shop.example"),
            (&["https://*.example"], "https://shop.example"),
            (&["https://shop*"], "https://shop.example"),
        ] {
            let with = |headers: &HeaderMap| {
                let origin = headers[ACCESS_CONTROL_ALLOW_ORIGIN].to_str().unwrap().to_owned();
                (origin, headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS))
            };
            let cors = cors(allowed, &[]);
            let expected = (expected.to_owned(), expected != "*");
            assert_eq!(with(&preflight(&cors, "POST", None)), expected, "{allowed:?}");
            let mut answer = HeaderMap::new();
            let sent = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("https://shop.example"))]);
            mark(&mut answer, cors.allowed(&sent));
            assert_eq!(with(&answer), expected, "{allowed:?}");
        }
    }

    #[test]
    fn only_a_preflight_is_one() {
        let parts = |request: http::request::Builder| request.body(()).unwrap().into_parts().0;
        let cors = cors(&["*"], &[]);
        assert!(cors.preflight(&parts(Request::options("/"))).is_none());
        let post = Request::post("/").header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        assert!(cors.preflight(&parts(post)).is_none());
    }
}
