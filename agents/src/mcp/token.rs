//! The secret that a client over HTTP must show.

use std::{fmt, str::FromStr};

use subtle::ConstantTimeEq;

use crate::service::random_hexadecimal;

/// Random bytes in a token.
const BYTES: usize = 32;

/// 32 random bytes as hexadecimal digits. Never printed by `Debug`.
#[derive(Clone)]
pub struct Token(String);

/// A text that is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a token is {} hexadecimal digits; leave it out to have one made", 2 * BYTES)]
pub struct NotAToken;

impl Token {
    /// A new one that nobody can guess.
    pub fn random() -> Self {
        Self(random_hexadecimal(BYTES))
    }

    /// The secret itself, for the client's configuration.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether the value of an `Authorization` header shows this token. Takes as long for a wrong one as for the right one.
    pub fn admits(&self, authorization: &[u8]) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        let Some((scheme, shown)) = authorization.split_at_checked(SCHEME.len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(SCHEME) && bool::from(shown.ct_eq(self.0.as_bytes()))
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let digits = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 2 * BYTES && digits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAToken)
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_behind_its_scheme_is_admitted() {
        let token = Token::random();
        let secret = token.secret();
        assert!(token.admits(format!("Bearer {secret}").as_bytes()));
        assert!(token.admits(format!("bearer {secret}").as_bytes()));
        let other = Token::random();
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            secret.to_owned(),
            format!("Basic {secret}"),
            format!("Bearer  {secret}"),
            format!("Bearer {secret} "),
            format!("Bearer {}", &secret[..63]),
            format!("Bearer {}", secret.to_uppercase() + "0"),
            format!("Bearer {}", other.secret()),
        ] {
            assert!(!token.admits(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_weak_token_cannot_be_chosen_and_a_log_shows_none() {
        assert!("secret".parse::<Token>().is_err());
        let token = Token::random();
        assert!(token.secret().parse::<Token>().is_ok());
        assert!(!format!("{token:?}").contains(token.secret()));
    }
}
