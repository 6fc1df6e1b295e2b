//! Geographic subdivisions smaller than a state: street, city, district, postal code.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(B).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Address,
    name: "address",
    group: Group::Phi,
    about: "Geographic subdivisions smaller than a state: street, city, district, postal code.",
    source: "45 CFR 164.514(b)(2)(i)(B)",
    identifies: true,
    keys: &[
        "streetaddress",
        "street",
        "street1",
        "street2",
        "addressline",
        "addressline1",
        "addressline2",
        "address1",
        "address2",
        "postalcode",
        "postcode",
        "zipcode",
        "homeaddress",
        "mailingaddress",
        "residentialaddress",
        "birthplace",
        "placeofbirth",
        "cityofbirth",
        "zip",
        "zip4",
        "strasse",
        "hausnummer",
        "plz",
        "wohnort",
        "woonplaats",
        "codepostal",
        "adresse",
        "straat",
        "straatnaam",
        "huisnummer",
        "postadres",
        "woonadres",
        "adres",
        "direccion",
        "domicilio",
        "calle",
        "codigopostal",
        "direccionpostal",
        "rue",
        "adressepostale",
        "adressedomicile",
        "voie",
        "indirizzo",
        "residenza",
        "codicepostale",
        "endereco",
        "logradouro",
        "cep",
        "gatuadress",
        "postnummer",
        "postadress",
        "gateadresse",
        "katuosoite",
        "postinumero",
        "ulica",
        "kodpocztowy",
        "anschrift",
        "wohnadresse",
        "postleitzahl",
        "hausnr",
        "strassenname",
        "residenceaddress",
        "permanentaddress",
        "currentaddress",
        "shippingaddress",
        "billingaddress",
        "deliveryaddress",
        "patientaddress",
        "addr1",
        "addr2",
        "addrline1",
        "addrline2",
        "streetname",
        "streetnumber",
        "housenumber",
        "postalzip",
        "zippostal",
        "postalcd",
        "lieunaissance",
        "lieudenaissance",
        "lugarnacimiento",
        "lugardenacimiento",
        "luogodinascita",
        "geburtsort",
        "geboorteplaats",
        "birthcity",
        "cityofresidence",
        "physicaladdress",
        "addressstreet",
        "addresscity",
        "addresszip",
        "addresspostalcode",
        "address3",
    ],
    keys_alone: &["address", "addresses", "city", "town"],
    keys_beside: &[
        "city",
        "town",
        "line",
        "suburb",
        "county",
        "district",
        "village",
        "ort",
        "ville",
        "ciudad",
        "stad",
        "gemeente",
        "citta",
        "cidade",
        "commune",
        "stadt",
        "localidad",
    ],
    words: &["address", "lives at", "resident of", "resides at", "residing at"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"street":"12 Harbour Road","city":"Springfield","zip":"62704"}"#,
        r#"{"resourceType":"Patient","address":[{"line":["12 Harbour Road"],"city":"Springfield"}]}"#,
        "She lives at 12 Harbour Road, Springfield.",
    ],
    counter_examples: &[
        r#"{"ip_address":"unknown","state":"active"}"#,
        r#"{"resourceType":"Organization","address":[{"city":"Springfield"}]}"#,
        r#"{"mac_address":"00:1b:63:84:45:e6"}"#,
    ],
};

/// Not a link, not an address of a machine or of a wallet.
fn own_fits(value: &[u8]) -> bool {
    let spaced = value.contains(&b' ');
    let postal = value.len() <= 12
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let word = value.len() <= 40
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || b"-'.".contains(byte) || *byte >= 0x80);
    any(value)
        && (2..=300).contains(&value.len())
        && (spaced || postal || word)
        && memchr::memmem::find(value, b"://").is_none()
        && !value.contains(&b'@')
        && !value.starts_with(b"0x")
}
