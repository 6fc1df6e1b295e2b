//! Words that make a row of capitals something else than a name: `Customer Service Desk`.

/// In order.
#[rustfmt::skip]
pub(super) const OTHERS: &[&[u8]] = &[
    b"academy", b"access", b"account", b"accounts", b"act", b"address", b"admin", b"advisor", b"again", b"agency",
    b"agreement", b"airlines", b"alert", b"all", b"api", b"app", b"applicant", b"april", b"associates", b"association",
    b"august", b"authority", b"available", b"avenue", b"backup", b"bakery", b"bank", b"benefits", b"billing", b"biotech",
    b"blocked", b"board", b"bot", b"branch", b"brewing", b"brothers", b"budget", b"build", b"bureau", b"cafe", b"candidate",
    b"cardiology", b"care", b"case", b"center", b"centre", b"changes", b"city", b"client", b"clinic", b"closed", b"cloud",
    b"cluster", b"code", b"colleague", b"colleagues", b"college", b"commission", b"committee", b"community", b"company",
    b"connection", b"consent", b"consulting", b"contact", b"core", b"corp", b"council", b"county", b"created", b"customer",
    b"customers", b"data", b"database", b"date", b"december", b"dental", b"department", b"deployment", b"desk", b"details",
    b"developer", b"developers", b"directory", b"discharge", b"district", b"doctor", b"domain", b"driver", b"edition",
    b"education", b"elementary", b"email", b"emergency", b"employee", b"energy", b"engagement", b"engine", b"engineering",
    b"enterprises", b"error", b"everybody", b"everyone", b"excel", b"exception", b"experience", b"failed", b"farms",
    b"february", b"file", b"finance", b"folder", b"folks", b"foods", b"form", b"framework", b"friday", b"friend",
    b"friends", b"gateway", b"general", b"gmbh", b"group", b"guest", b"guide", b"guys", b"handbook", b"health", b"help",
    b"hiring", b"history", b"holdings", b"hospital", b"hotels", b"housing", b"human", b"id", b"image", b"inc",
    b"industries", b"info", b"information", b"install", b"instructions", b"insurance", b"intake", b"issue", b"january",
    b"jewelers", b"job", b"july", b"june", b"key", b"lab", b"labs", b"language", b"list", b"llc", b"loan", b"login",
    b"logistics", b"ltd", b"madam", b"management", b"manager", b"march", b"media", b"medical", b"meeting", b"member",
    b"members", b"mobile", b"module", b"monday", b"motors", b"name", b"network", b"new", b"node", b"north", b"notes",
    b"notifications", b"november", b"now", b"number", b"october", b"office", b"oncology", b"online", b"order", b"ortho",
    b"outlook", b"package", b"parent", b"parents", b"partner", b"partners", b"patient", b"payable", b"payment",
    b"pediatrics", b"pharma", b"phone", b"pipeline", b"pizza", b"plan", b"platform", b"plugin", b"plus", b"police",
    b"policy", b"portal", b"powerpoint", b"premium", b"privacy", b"pro", b"program", b"project", b"provider", b"queue",
    b"radiology", b"reader", b"receivable", b"received", b"record", b"records", b"region", b"registration", b"relations",
    b"release", b"report", b"request", b"resident", b"resources", b"response", b"restaurant", b"review", b"rights", b"road",
    b"roadmap", b"runner", b"safety", b"saturday", b"school", b"schools", b"script", b"security", b"september", b"server",
    b"service", b"services", b"session", b"shareholder", b"sir", b"sirs", b"solutions", b"sons", b"south", b"sprint",
    b"sql", b"stadium", b"states", b"stores", b"street", b"student", b"studio", b"studios", b"subscriber", b"success",
    b"suite", b"summary", b"sunday", b"supplier", b"support", b"survey", b"system", b"systems", b"table", b"task", b"team",
    b"teams", b"technologies", b"template", b"tenant", b"terms", b"test", b"theater", b"theatre", b"therapeutics", b"there",
    b"thursday", b"ticket", b"today", b"token", b"township", b"traveler", b"tuesday", b"union", b"unit", b"united",
    b"university", b"update", b"us", b"user", b"users", b"value", b"valued", b"vendor", b"version", b"vineyards", b"visio",
    b"ward", b"warning", b"web", b"wednesday", b"west", b"windows", b"winery", b"word", b"world", b"zoo",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order() {
        assert!(OTHERS.is_sorted());
    }
}
