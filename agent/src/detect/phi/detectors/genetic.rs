//! Genetic data: sequences and variants.
//!
//! Source: GDPR Articles 4(13) and 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Genetic,
    name: "genetic",
    group: Group::Health,
    about: "Genetic data: sequences and variants.",
    source: "GDPR Articles 4(13) and 9(1)",
    identifies: false,
    keys: &[
        "dnasequence",
        "genomesequence",
        "genotype",
        "geneticdata",
        "genetictest",
        "genevariant",
        "dbsnp",
        "rsid",
        "genome",
        "dna",
        "hgvsc",
        "hgvsp",
        "geneticresult",
        "genetictestresult",
        "geneticmarker",
        "geneticmarkers",
        "geneticvariant",
        "hgvs",
        "haplotype",
        "hlatype",
        "hlatyping",
        "dnaprofile",
        "exomesequence",
        "exome",
        "genomicdata",
        "genomicsequence",
        "genomicvariant",
        "brcastatus",
        "brca1",
        "brca2",
        "karyotype",
        "apoe",
        "apoegenotype",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"genotype":"rs1801133 CT"}"#,
        r#"{"resourceType":"MolecularSequence","observedSeq":"ACGCATTACGGTAC"}"#,
    ],
    counter_examples: &[r#"{"genetic":true}"#, r#"{"algorithm":"genetic"}"#],
};

fn own_fits(value: &[u8]) -> bool {
    any(value)
}
