//! Passwords and PINs, by their keys.
//!
//! Source: NIST SP 800-63B section 5.1.1.

use crate::detect::phi::checks::{any, is_message};
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Password,
    name: "password",
    group: Group::Credential,
    about: "Passwords and PINs, by their keys.",
    source: "NIST SP 800-63B section 5.1.1",
    identifies: true,
    keys: &[
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "userpassword",
        "newpassword",
        "oldpassword",
        "currentpassword",
        "passcode",
        "kennwort",
        "passwort",
        "wachtwoord",
        "motdepasse",
        "contrasena",
        "contrasenia",
        "contrasegna",
        "haslo",
        "losenord",
        "salasana",
        "confirmpassword",
        "passwordconfirmation",
        "loginpassword",
        "secretanswer",
        "passwordhash",
        "hashedpassword",
        "pwdhash",
        "personalpin",
        "userpin",
        "userpass",
        "senha",
    ],
    keys_alone: &["pin"],
    keys_beside: &[],
    words: &["password", "passcode", "passwort"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"username":"marta","password":"corr3ct-horse"}"#,
        "user=marta&password=corr3ct-horse",
    ],
    counter_examples: &[
        r#"{"password":""}"#,
        r#"{"password_reset":true}"#,
        r#"{"passwordPolicy":{"min":8}}"#,
        r#"{"errors":{"password":"Mot de passe trop court"},"login":{"password":"Forgot your password?"}}"#,
    ],
};

/// Not what a form says of one: `Password must be at least 8 characters`, `Mot de passe trop court`.
fn own_fits(value: &[u8]) -> bool {
    any(value) && value.len() <= 256 && !(value.contains(&b' ') && (speaks_of_it(value) || is_message(value)))
}

fn speaks_of_it(value: &[u8]) -> bool {
    let letters: Vec<u8> = value
        .iter()
        .filter(|byte| byte.is_ascii_alphabetic())
        .map(u8::to_ascii_lowercase)
        .collect();
    let mut names = DETECTOR.keys.iter().filter(|name| name.len() >= 7);
    names.any(|name| memchr::memmem::find(&letters, name.as_bytes()).is_some())
}
