//! The addresses that people and clients use: the page's own, and the protected API's.

use axum::http::Uri;
use std::str::FromStr;

/// Where browsers find the page: behind a proxy that ends TLS, or below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// Whether browsers use TLS.
    pub secure: bool,
    /// The host and the port, as browsers send them.
    pub authority: String,
    /// The path that everything is below, without a slash at its end. Empty where there is none.
    pub base: String,
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = http_url(text)?;
        let path = uri.path().trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
        if !path.bytes().all(plain) || path.contains("//") || path.split('/').any(|part| part == "." || part == "..") {
            return Err(format!("the path `{path}` has more than letters, digits, `-`, `_`, `.` and single slashes"));
        }
        if uri.query().is_some() {
            return Err(format!("`{text}` has a query"));
        }
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { secure: uri.scheme_str() == Some("https"), authority, base: path.to_owned() })
    }
}

impl PublicUrl {
    /// Returns the address, with a slash at its end.
    pub fn text(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}/", self.authority, self.base)
    }
}

/// The address at which clients call the protected API, for the commands that are shown with a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiUrl(String);

impl FromStr for ApiUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        http_url(text)?;
        // It stands between quotes in a command.
        let odd = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '\'' | '"' | '\\' | '`'));
        match odd {
            Some(odd) => Err(format!("`{text}` has {odd:?} in it")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl ApiUrl {
    /// Returns the address of one call, if the setting names one and not only where the API is.
    pub fn call(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let is_call = rest.split_once('/').is_some_and(|(_, path)| !path.is_empty());
        (is_call && !self.0.ends_with('/')).then_some(&self.0)
    }

    /// Returns the address of a path of the API.
    pub fn of_path(&self, path: &str) -> String {
        format!("{}{path}", self.0.trim_end_matches('/'))
    }
}

fn http_url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("`{text}` is no address like https://keys.example.com/");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.as_str().contains('@') || text.contains('#') {
        return Err(wrong());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_taken_apart() {
        let of = |text: &str| text.parse::<PublicUrl>();
        let url = of("https://ops.example/keyward/").unwrap();
        assert_eq!((url.secure, &*url.authority, &*url.base), (true, "ops.example", "/keyward"));
        assert_eq!(url.text(), "https://ops.example/keyward/");
        let url = of("http://127.0.0.1:8081").unwrap();
        assert_eq!((url.secure, &*url.authority, &*url.base), (false, "127.0.0.1:8081", ""));
        for wrong in [
            "ops.example",
            "ftp://x/",
            "https://",
            "https://a@b/",
            "https://a/?x",
            "https://a/x#y",
            "https://a/../b",
            "https://a/%22",
            "https://a//b",
            "/x",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_api_address_is_a_place_or_a_call() {
        let of = |text: &str| text.parse::<ApiUrl>().unwrap();
        assert_eq!(of("https://api.example").call(), None);
        assert_eq!(of("https://api.example/v2/").call(), None);
        assert_eq!(of("https://api.example/v2/").of_path("/a"), "https://api.example/v2/a");
        assert_eq!(of("https://api.example/v2/ping?x=1").call(), Some("https://api.example/v2/ping?x=1"));
        assert!("https://a/'; rm -rf ~'".parse::<ApiUrl>().is_err());
    }
}
