//! FHIR: what its elements, resources, identifiers and code systems say.
//!
//! Data types are told by their elements, whatever the resource: a HumanName has `family`, a ContactPoint `system` and
//! `value`. The resource says whose they are. Sources: HL7 FHIR R4 and R5, datatypes and resources; table 0203 for types
//! of identifiers. It must not know how a body is visited.

use super::class::Class;
use super::keys::Owner;

/// An element whose place matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Element {
    /// Not one of FHIR.
    #[default]
    Other,
    /// One of FHIR that says nothing by itself.
    Known,
    ResourceType,
    Resource,
    Contained,
    Name,
    Family,
    Given,
    Text,
    Address,
    Line,
    City,
    District,
    PostalCode,
    Telecom,
    System,
    Value,
    Identifier,
    Type,
    Coding,
    Code,
    Reference,
    Display,
    Id,
    BirthDate,
    Deceased,
    Photo,
    Data,
    Url,
    Div,
    /// A reference to the patient.
    Subject,
    /// A reference to somebody who is not.
    Professional,
    /// A date of care.
    Date,
    Period,
    Start,
    End,
    Serial,
    SubscriberId,
    Sequence,
    Note,
    Contact,
    Extension,
    /// A primitive that an extension holds.
    ValueText,
    Reason,
    /// A concept about somebody's health.
    Clinical,
    /// The same of what was done.
    Done,
    /// A questionnaire's, with its answers.
    Item,
    Answer,
    /// When something was so, in CDA.
    EffectiveTime,
    /// What a document of CDA is about, and what its codes are kinds of texts in.
    StructuredBody,
    Section,
}

impl Element {
    pub fn of(name: &[u8]) -> Element {
        use Element::*;
        match name {
            b"resourceType" => ResourceType,
            b"resource" => Resource,
            b"contained" => Contained,
            b"name" | b"valueHumanName" => Name,
            b"family" => Family,
            b"given" => Given,
            b"text" => Text,
            b"address" | b"valueAddress" => Address,
            b"line" => Line,
            b"city" => City,
            b"district" => District,
            b"postalCode" => PostalCode,
            b"telecom" | b"valueContactPoint" => Telecom,
            b"system" | b"codeSystem" => System,
            b"value" => Value,
            b"identifier" | b"valueIdentifier" => Identifier,
            b"type" => Type,
            b"coding" | b"valueCoding" => Coding,
            b"code" => Code,
            b"reference" => Reference,
            b"display" => Display,
            b"id" => Id,
            b"birthDate" | b"bornDate" => BirthDate,
            b"deceasedDateTime" | b"deceasedDate" => Deceased,
            b"photo" => Photo,
            b"data" => Data,
            b"url" => Url,
            b"div" => Div,
            b"subject" | b"patient" | b"beneficiary" | b"subscriber" | b"policyHolder" => Subject,
            b"practitioner"
            | b"performer"
            | b"requester"
            | b"recorder"
            | b"asserter"
            | b"individual"
            | b"provider"
            | b"author"
            | b"generalPractitioner"
            | b"attester"
            | b"actor"
            | b"sender"
            | b"recipient"
            | b"agent"
            | b"participant"
            | b"enterer"
            | b"informationSource"
            | b"interpreter"
            | b"resultsInterpreter"
            | b"assessor"
            | b"responsible"
            | b"who"
            | b"party"
            | b"member"
            | b"careManager"
            | b"orderer" => Professional,
            b"effectiveDateTime"
            | b"performedDateTime"
            | b"occurrenceDateTime"
            | b"onsetDateTime"
            | b"abatementDateTime"
            | b"recordedDate"
            | b"authoredOn"
            | b"issued"
            | b"assertedDate"
            | b"lastOccurrence"
            | b"whenHandedOver"
            | b"whenPrepared"
            | b"effectiveInstant"
            | b"servicedDate"
            | b"collectedDateTime"
            | b"receivedTime"
            | b"signed"
            | b"occurrenceString"
            | b"dateAsserted"
            | b"statusDate"
            | b"onsetString"
            | b"recorded"
            | b"sent"
            | b"received"
            | b"authored"
            | b"dateTime"
            | b"dateRecorded"
            | b"dateWritten"
            | b"startDate"
            | b"timingDateTime"
            | b"plannedStartDate"
            | b"plannedEndDate"
            | b"date"
            | b"started" => Date,
            b"period" | b"effectivePeriod" | b"performedPeriod" | b"billablePeriod" | b"servicedPeriod"
            | b"requestedPeriod" | b"plannedPeriod" | b"scheduledPeriod" | b"timingPeriod"
            | b"onsetPeriod" | b"occurrencePeriod" | b"collectedPeriod" | b"actualPeriod" => Period,
            b"start" => Start,
            b"end" => End,
            b"serialNumber" | b"udiCarrier" | b"carrierHRF" | b"deviceIdentifier" | b"distinctIdentifier" => {
                Serial
            }
            b"subscriberId" => SubscriberId,
            b"observedSeq" => Sequence,
            b"note" | b"comment" | b"patientInstruction" | b"description" | b"conclusion" | b"title" => Note,
            b"contact" => Contact,
            b"extension" => Extension,
            b"valueString" | b"valueCode" | b"valueMarkdown" | b"valueDate" | b"valueDateTime" => ValueText,
            b"medicationCodeableConcept"
            | b"vaccineCode"
            | b"productOrService"
            | b"diagnosisCodeableConcept"
            | b"concept"
            | b"valueCodeableConcept"
            | b"substance"
            | b"manifestation"
            | b"medication" => Clinical,
            b"procedureCode" | b"procedureCodeableConcept" => Done,
            b"item" => Item,
            b"answer" => Answer,
            b"effectiveTime" => EffectiveTime,
            b"structuredBody" => StructuredBody,
            b"section" | b"ClinicalDocument" | b"organizer" => Section,
            b"reasonCode" | b"reason" | b"reasonReference" => Reason,
            _ if KNOWN.contains(&name) => Known,
            _ => Other,
        }
    }
}

/// Elements that locations pass.
const KNOWN: &[&[u8]] = &[
    b"entry",
    b"fullUrl",
    b"meta",
    b"profile",
    b"prefix",
    b"suffix",
    b"use",
    b"link",
    b"communication",
    b"language",
    b"maritalStatus",
    b"managingOrganization",
    b"serviceProvider",
    b"location",
    b"encounter",
    b"context",
    b"codeableConcept",
    b"valueCodeableConcept",
    b"valueQuantity",
    b"valueReference",
    b"valueAttachment",
    b"valueUri",
    b"component",
    b"category",
    b"status",
    b"clinicalStatus",
    b"verificationStatus",
    b"interpretation",
    b"referenceRange",
    b"result",
    b"results",
    b"presentedForm",
    b"content",
    b"attachment",
    b"contentType",
    b"items",
    b"productOrService",
    b"diagnosis",
    b"diagnosisCodeableConcept",
    b"diagnosisReference",
    b"procedure",
    b"procedureCodeableConcept",
    b"insurance",
    b"coverage",
    b"payor",
    b"medicationCodeableConcept",
    b"medicationReference",
    b"medication",
    b"concept",
    b"vaccineCode",
    b"dosage",
    b"dosageInstruction",
    b"reaction",
    b"manifestation",
    b"substance",
    b"target",
    b"activity",
    b"detail",
    b"parameter",
    b"part",
    b"careTeam",
    b"relationship",
    b"organization",
    b"role",
    b"bodySite",
    b"specimen",
    b"collection",
    b"condition",
    b"supportingInfo",
    b"onBehalfOf",
    b"response",
    b"request",
    b"search",
    b"total",
    b"birthSex",
    b"mothersMaidenName",
    b"patientIdentifier",
    b"qualification",
    b"issuer",
    b"addressLine",
    b"hospitalization",
    b"admitSource",
    b"dischargeDisposition",
    b"Value",
    b"Alphabetic",
    b"vr",
    b"payload",
    b"contentString",
    b"series",
    b"instance",
    b"modality",
    b"study",
    b"owner",
    b"subjectReference",
    b"animal",
    b"NativeDicomModel",
    b"DicomAttribute",
];

/// Types of resources, by whose data they hold.
pub(super) fn resource(name: &[u8]) -> Option<(Resource, Owner)> {
    use Resource::*;
    // They all begin with a capital letter; most keys and segments do not.
    name.first().filter(|first| first.is_ascii_uppercase())?;
    Some(match name {
        b"Patient" | b"Person" => (Patient, Owner::Patient),
        b"RelatedPerson" => (RelatedPerson, Owner::Patient),
        b"Practitioner" | b"PractitionerRole" => (Practitioner, Owner::Person),
        b"Organization"
        | b"Location"
        | b"Endpoint"
        | b"HealthcareService"
        | b"OrganizationAffiliation"
        | b"MessageHeader"
        | b"Slot"
        | b"Schedule"
        | b"InsurancePlan" => (Organization, Owner::Organization),
        b"Bundle" | b"Parameters" | b"Basic" | b"Binary" => (Bundle, Owner::Unknown),
        b"Condition" | b"FamilyMemberHistory" | b"ClinicalImpression" => (Condition, Owner::Patient),
        b"Procedure" | b"ServiceRequest" => (Procedure, Owner::Patient),
        b"MedicationRequest"
        | b"MedicationStatement"
        | b"MedicationAdministration"
        | b"MedicationDispense"
        | b"MedicationUsage"
        | b"Immunization"
        | b"ImmunizationRecommendation" => (Medication, Owner::Patient),
        b"AllergyIntolerance" => (Allergy, Owner::Patient),
        b"Observation" | b"DiagnosticReport" | b"RiskAssessment" | b"QuestionnaireResponse" => {
            (Observation, Owner::Patient)
        }
        b"MolecularSequence" => (MolecularSequence, Owner::Patient),
        b"Device" => (Device, Owner::Patient),
        b"Coverage" | b"CoverageEligibilityRequest" | b"CoverageEligibilityResponse" => {
            (Coverage, Owner::Patient)
        }
        b"Account" => (Account, Owner::Patient),
        b"Encounter" | b"EpisodeOfCare" => (Encounter, Owner::Patient),
        b"CapabilityStatement"
        | b"StructureDefinition"
        | b"ValueSet"
        | b"CodeSystem"
        | b"ConceptMap"
        | b"ImplementationGuide"
        | b"SearchParameter"
        | b"OperationDefinition"
        | b"CompartmentDefinition"
        | b"StructureMap"
        | b"GraphDefinition"
        | b"MessageDefinition"
        | b"NamingSystem"
        | b"TestScript"
        | b"TestReport"
        | b"TestPlan"
        | b"ExampleScenario"
        | b"TerminologyCapabilities"
        | b"Questionnaire"
        | b"PlanDefinition"
        | b"ActivityDefinition"
        | b"Library"
        | b"Measure"
        | b"EventDefinition"
        | b"ResearchDefinition"
        | b"ResearchElementDefinition"
        | b"Evidence"
        | b"EvidenceVariable"
        | b"ChargeItemDefinition"
        | b"ObservationDefinition"
        | b"SpecimenDefinition"
        | b"SubstanceDefinition"
        | b"OperationOutcome"
        | b"Subscription"
        | b"SubscriptionTopic"
        | b"Requirements"
        | b"ActorDefinition"
        | b"ConditionDefinition"
        | b"Citation"
        | b"MedicinalProductDefinition"
        | b"MedicationKnowledge"
        | b"Medication"
        | b"Substance"
        | b"DeviceDefinition"
        | b"CatalogEntry"
        | b"EffectEvidenceSynthesis"
        | b"RiskEvidenceSynthesis"
        | b"SubstanceSpecification" => (Definition, Owner::Definition),
        _ if CLINICAL.contains(&name) => (Clinical, Owner::Patient),
        _ => return Option::None,
    })
}

/// Others in the patient's compartment, or about care.
const CLINICAL: &[&[u8]] = &[
    b"AdverseEvent",
    b"Appointment",
    b"AppointmentResponse",
    b"AuditEvent",
    b"BiologicallyDerivedProduct",
    b"BodyStructure",
    b"CarePlan",
    b"CareTeam",
    b"ChargeItem",
    b"Claim",
    b"ClaimResponse",
    b"Communication",
    b"CommunicationRequest",
    b"Composition",
    b"Consent",
    b"Contract",
    b"DetectedIssue",
    b"DeviceDispense",
    b"DeviceMetric",
    b"DeviceRequest",
    b"DeviceUsage",
    b"DeviceUseStatement",
    b"DocumentManifest",
    b"DocumentReference",
    b"EnrollmentRequest",
    b"EnrollmentResponse",
    b"ExplanationOfBenefit",
    b"Flag",
    b"FormularyItem",
    b"GenomicStudy",
    b"Goal",
    b"Group",
    b"GuidanceResponse",
    b"ImagingSelection",
    b"ImagingStudy",
    b"ImmunizationEvaluation",
    b"Invoice",
    b"Linkage",
    b"List",
    b"Media",
    b"NutritionIntake",
    b"NutritionOrder",
    b"NutritionProduct",
    b"PaymentNotice",
    b"PaymentReconciliation",
    b"Provenance",
    b"RequestGroup",
    b"RequestOrchestration",
    b"ResearchStudy",
    b"ResearchSubject",
    b"Specimen",
    b"SupplyDelivery",
    b"SupplyRequest",
    b"Task",
    b"Transport",
    b"VerificationResult",
    b"VisionPrescription",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Resource {
    #[default]
    None,
    Bundle,
    Patient,
    RelatedPerson,
    Practitioner,
    Organization,
    Condition,
    Procedure,
    Medication,
    Allergy,
    Observation,
    MolecularSequence,
    Device,
    Coverage,
    Account,
    Encounter,
    Clinical,
    Definition,
}

/// What a concept at this element of a resource is, whatever its code's system, and if it is only written.
pub(super) fn concept(resource: Resource, element: Element) -> Option<Class> {
    Some(match (resource, element) {
        (Resource::Condition, Element::Code) => Class::Diagnosis,
        (Resource::Procedure, Element::Code | Element::Done) => Class::Procedure,
        (Resource::Medication, Element::Clinical) => Class::Medication,
        (Resource::Allergy, Element::Code) => Class::Allergy,
        (Resource::Observation, Element::Code) => Class::Observation,
        // Why something was done.
        (
            Resource::Encounter | Resource::Procedure | Resource::Medication | Resource::Clinical,
            Element::Reason,
        ) => Class::Diagnosis,
        _ => return None,
    })
}

/// The type of an identifier, of HL7 table 0203.
pub(super) fn identifier_type(code: &[u8]) -> Option<Class> {
    Some(match code {
        // National numbers, with the country's three letters.
        b"NNNLD" => Class::Bsn,
        b"NNFRA" | b"INS" | b"INS-NIR" | b"INS-C" => Class::Nir,
        b"NNCAN" => Class::Sin,
        b"NNDEU" => Class::SteuerId,
        b"NNGBR" => Class::NhsNumber,
        [b'N', b'N', country @ ..] if country.len() == 3 => Class::Passport,
        b"MR" | b"PI" | b"PT" | b"MRT" | b"PE" => Class::Mrn,
        b"SS" | b"SB" | b"SSN" => Class::Ssn,
        b"DL" | b"PRN" | b"MD" | b"RN" | b"LN" | b"DN" | b"NP" | b"DDS" => Class::Licence,
        b"PPN" | b"NI" | b"CZ" | b"TAX" | b"PRC" => Class::Passport,
        b"NPI" => Class::Npi,
        b"DEA" => Class::Dea,
        b"MB" | b"MC" | b"MA" | b"SN" | b"HC" | b"JHN" | b"NH" | b"PHC" | b"NIIP" => Class::HealthPlan,
        b"MCR" => Class::Mbi,
        b"VN" | b"AN" | b"BA" | b"ACSN" => Class::Account,
        b"CC" => Class::Card,
        b"BRN" | b"EN" | b"XX" | b"U" | b"RI" | b"ANON" => Class::PatientId,
        _ => return None,
    })
}

/// The system of an identifier, by what stands in its URI or OID.
pub(super) fn identifier_system(system: &[u8]) -> Option<Class> {
    const SYSTEMS: &[(&[u8], Class)] = &[
        (b"us-ssn", Class::Ssn),
        (b"2.16.840.1.113883.4.1", Class::Ssn),
        (b"us-npi", Class::Npi),
        (b"2.16.840.1.113883.4.6", Class::Npi),
        (b"us-mbi", Class::Mbi),
        (b"2.16.840.1.113883.4.572", Class::Mbi),
        (b"us-medicare", Class::HealthPlan),
        (b"us-dea", Class::Dea),
        (b"nhs-number", Class::NhsNumber),
        (b"fhir.nl/fhir/NamingSystem/bsn", Class::Bsn),
        (b"2.16.840.1.113883.2.4.6.3", Class::Bsn),
        (b"1.2.250.1.213.1.4.8", Class::Nir),
        (b"1.2.250.1.213.1.4.10", Class::Nir),
        (b"identifier/steuer", Class::SteuerId),
        (b"passport", Class::Passport),
        (b"2.16.840.1.113883.4.330", Class::Passport),
        (b"2.16.840.1.113883.4.3.", Class::Licence),
        (b"kvid", Class::HealthPlan),
        (b"medicare-number", Class::HealthPlan),
        (b"mrn", Class::Mrn),
    ];
    // Longest first where one is the beginning of another: the OIDs of SSN and NPI end there.
    SYSTEMS
        .iter()
        .find(|(part, _)| match part.last() {
            Some(b'0'..=b'9') => system.ends_with(part),
            _ => memchr::memmem::find(system, part).is_some(),
        })
        .map(|(_, class)| *class)
}

/// What codes of a system are about; `None`: not about health, or it depends on the resource.
pub(super) fn code_system(system: &[u8], resource: Resource) -> Option<Class> {
    match (code_system_alone(system, resource), resource) {
        // Who is allergic to a drug does not take it.
        (Some(Class::Medication), Resource::Allergy) => Some(Class::Allergy),
        (class, _) => class,
    }
}

fn code_system_alone(system: &[u8], resource: Resource) -> Option<Class> {
    let has = |part: &[u8]| memchr::memmem::find(system, part).is_some();
    if has(b"snomed.info/sct") || system.ends_with(b"2.16.840.1.113883.6.96") {
        return match resource {
            Resource::Condition => Some(Class::Diagnosis),
            Resource::Procedure => Some(Class::Procedure),
            Resource::Medication => Some(Class::Medication),
            Resource::Allergy => Some(Class::Allergy),
            Resource::Observation => Some(Class::Observation),
            Resource::Clinical | Resource::Encounter => Some(Class::Diagnosis),
            _ => None,
        };
    }
    if has(b"icd-10-pcs") || has(b"ICD10PCS") || has(b"ama-assn.org/go/cpt") || has(b"hcpcs") || has(b"HCPCS")
    {
        return Some(Class::Procedure);
    }
    let oid = |oids: &[&[u8]]| oids.iter().any(|oid| system.ends_with(oid));
    if oid(&[
        b"2.16.840.1.113883.6.12",
        b"2.16.840.1.113883.6.104",
        b"2.16.840.1.113883.6.4",
    ]) {
        return Some(Class::Procedure);
    }
    if oid(&[b"2.16.840.1.113883.6.103", b"2.16.840.1.113883.6.3"]) {
        return Some(Class::Diagnosis);
    }
    if oid(&[
        b"2.16.840.1.113883.6.88",
        b"2.16.840.1.113883.6.69",
        b"2.16.840.1.113883.12.292",
        b"2.16.840.1.113883.6.59",
    ]) {
        return Some(Class::Medication);
    }
    if has(b"icd-10") || has(b"icd-9") || has(b"icd-11") || has(b"/icd") || has(b"2.16.840.1.113883.6.90") {
        return Some(Class::Diagnosis);
    }
    if has(b"rxnorm")
        || has(b"/sid/ndc")
        || has(b"whocc.no/atc")
        || has(b"/sid/cvx")
        || has(b"snomed.info/dm")
    {
        return Some(Class::Medication);
    }
    if has(b"loinc.org") || system.ends_with(b"2.16.840.1.113883.6.1") {
        return match resource {
            Resource::Allergy => Some(Class::Allergy),
            _ => Some(Class::Observation),
        };
    }
    None
}

/// Types of HL7 v2 code systems (table 0396), of the same.
pub(super) fn code_table(name: &[u8]) -> Option<Class> {
    Some(match name {
        b"I9" | b"I9C" | b"I10" | b"ICD10" | b"I10C" | b"ICD-10" => Class::Diagnosis,
        b"C4" | b"CPT" | b"CPTM" | b"HCPCS" | b"I10P" => Class::Procedure,
        b"LN" => Class::Observation,
        b"RXNORM" | b"NDC" | b"CVX" | b"ATC" => Class::Medication,
        _ => return None,
    })
}
