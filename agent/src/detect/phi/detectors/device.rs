//! Device identifiers and serial numbers.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(M); 21 CFR 801.40 (UDI), GS1 General Specifications.

use crate::detect::phi::checks::{any, number};
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Device,
    name: "device",
    group: Group::Phi,
    about: "Device identifiers and serial numbers.",
    source: "45 CFR 164.514(b)(2)(i)(M); 21 CFR 801.40 (UDI), GS1 General Specifications",
    identifies: true,
    keys: &[
        "imeihardwareid",
        "udi",
        "deviceid",
        "deviceidentifier",
        "deviceserial",
        "deviceserialnumber",
        "serialnumber",
        "serialno",
        "imei",
        "imsi",
        "implantserial",
        "pacemakerserial",
        "implantserialnumber",
        "iccid",
        "idfa",
        "gaid",
        "androidid",
        "advertisingid",
        "phoneimei",
        "devicesn",
        "deviceserialno",
        "meid",
        "esn",
        "wifimacaddress",
        "ethernetmacaddress",
        "bluetoothmacaddress",
        "devicemacaddress",
        "deviceuid",
        "cgmserial",
        "glucometerserial",
        "wearableid",
        "btmacaddress",
        "pumpserial",
        "pumpserialnumber",
        "pacemakerid",
        "implantid",
        "implantidentifier",
        "wearableserial",
        "hearingaidserial",
        "meterserial",
        "devicemac",
    ],
    keys_alone: &[],
    keys_beside: &["macaddress", "mac", "serial", "trackerid"],
    words: &[
        "serial number",
        "udi",
        "device id",
        "s/n",
        "serial no",
        "imei",
        "mac address",
    ],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"device_serial":"SN-48291377"}"#,
        r#"{"resourceType":"Device","serialNumber":"SN-48291377"}"#,
        "Implanted: (01)00844588003288(17)141120(10)7654321D(21)10987654d321.",
    ],
    counter_examples: &[r#"{"deviceType":"pump"}"#, r#"{"serial":false}"#, "f(01)2345"],
};

fn own_fits(value: &[u8]) -> bool {
    number(value) || (any(value) && value.starts_with(b"(01)"))
}
