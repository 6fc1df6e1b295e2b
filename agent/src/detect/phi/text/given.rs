//! Given names that many people have, in lower case and in order: most of two words with capitals that begin with one are a
//! person's name, and hardly any that begin with another.
//!
//! Sources: the lists of most frequent given names of the United States (Social Security Administration, Census Bureau), the
//! United Kingdom, Germany, France, Spain, Italy, Poland, and of the larger diasporas there.

/// It is one of them.
pub(super) fn is_given(word: &[u8]) -> bool {
    let lower = || word.iter().map(u8::to_ascii_lowercase);
    GIVEN
        .binary_search_by(|known| known.iter().copied().cmp(lower()))
        .is_ok()
}

#[rustfmt::skip]
const GIVEN: &[&[u8]] = &[
    b"aaliyah", b"aaron", b"abdullah", b"abigail", b"abraham", b"adaeze", b"adam", b"addison", b"adrian",
    b"adriana", b"adrienne", b"agnes", b"agnieszka", b"ahmad", b"ahmed", b"aisha", b"akira", b"alain", b"alan",
    b"albert", b"alberto", b"alejandro", b"alessandro", b"alex", b"alexander", b"alexandra", b"alexei",
    b"alexey", b"alexis", b"alfredo", b"ali", b"alice", b"alicia", b"alison", b"alistair", b"allan", b"allen",
    b"allison", b"alvin", b"ama", b"amaka", b"amanda", b"amara", b"amber", b"amelia", b"amelie", b"amina",
    b"amira", b"amit", b"amy", b"ana", b"ananya", b"anastasia", b"anders", b"andre", b"andrea", b"andreas",
    b"andrei", b"andrew", b"andrzej", b"andy", b"angel", b"angela", b"angelica", b"anil", b"anja", b"anjali",
    b"ann", b"anna", b"anthony", b"antoine", b"antonia", b"antonio", b"aoife", b"archie", b"aria", b"arjun",
    b"armando", b"arthur", b"arturo", b"ashley", b"astrid", b"aubrey", b"aurelie", b"austin", b"ava", b"avery",
    b"bailey", b"barb", b"barbara", b"barry", b"beatrice", b"beatriz", b"becky", b"bella", b"ben", b"benjamin",
    b"bernard", b"bernice", b"bertha", b"beth", b"bethany", b"betty", b"beverly", b"bill", b"billy", b"birgit",
    b"bjorn", b"blake", b"bob", b"bobby", b"boris", b"bradley", b"brandon", b"brenda", b"brent", b"brett",
    b"brian", b"brittany", b"brooke", b"bruce", b"bryan", b"bryce", b"bryony", b"caleb", b"callum", b"calvin",
    b"camila", b"camille", b"candace", b"carl", b"carla", b"carlos", b"carmen", b"carol", b"carole",
    b"caroline", b"carolyn", b"carrie", b"carter", b"casey", b"cassandra", b"catarina", b"catherine", b"cathy",
    b"cecil", b"cedric", b"celine", b"cerys", b"cesar", b"chad", b"charlene", b"charles", b"charlotte",
    b"chelsea", b"cheryl", b"chester", b"chiara", b"chidi", b"chinedu", b"chloe", b"chris", b"christian",
    b"christina", b"christine", b"christopher", b"ciara", b"ciaran", b"cindy", b"claire", b"clarence",
    b"claudia", b"clayton", b"clifford", b"clint", b"clive", b"clyde", b"cody", b"cole", b"colin", b"colleen",
    b"colton", b"connie", b"connor", b"conor", b"constance", b"corey", b"cormac", b"cory", b"courtney",
    b"craig", b"cristina", b"crystal", b"curtis", b"cynthia", b"dalton", b"damian", b"dan", b"dana", b"daniel",
    b"danielle", b"darius", b"darrell", b"darryl", b"dave", b"david", b"dawn", b"dean", b"deb", b"deborah",
    b"debra", b"declan", b"deepa", b"delores", b"demetrius", b"denis", b"denise", b"dennis", b"derek",
    b"derrick", b"desiree", b"diana", b"diane", b"dianne", b"diego", b"dieter", b"divya", b"dmitri", b"dmitry",
    b"dolly", b"dolores", b"dominic", b"dominique", b"don", b"donald", b"donna", b"doris", b"dorothy",
    b"douglas", b"dragan", b"drew", b"dustin", b"dwight", b"dylan", b"edgar", b"edith", b"edna", b"eduardo",
    b"edward", b"edwin", b"eileen", b"ekaterina", b"elaine", b"eleanor", b"elena", b"eli", b"eliana",
    b"elijah", b"elin", b"elizabeth", b"ella", b"ellen", b"emeka", b"emily", b"emma", b"enrique", b"eric",
    b"erica", b"erik", b"erika", b"erin", b"ernest", b"ernesto", b"esther", b"ethan", b"ethel", b"etta",
    b"eugene", b"eva", b"evelyn", b"everett", b"evie", b"ewa", b"ewan", b"ezra", b"fabian", b"fatima",
    b"federica", b"felicia", b"felix", b"femi", b"fernando", b"finn", b"fiona", b"florian", b"floyd",
    b"frances", b"francesca", b"francesco", b"francis", b"francisco", b"frank", b"fred", b"freddie",
    b"frederick", b"freya", b"fritz", b"gabriel", b"gabrielle", b"gail", b"gareth", b"garrett", b"gary",
    b"gavin", b"geoffrey", b"george", b"georgia", b"gerald", b"geraldine", b"gianna", b"gilbert", b"gilles",
    b"gina", b"ginger", b"giovanni", b"gisela", b"giulia", b"giuseppe", b"gladys", b"glenda", b"glenn",
    b"gloria", b"goncalo", b"gordon", b"grace", b"graham", b"grant", b"greg", b"gregory", b"guadalupe",
    b"guillaume", b"guillermo", b"gunter", b"gustavo", b"haley", b"hamish", b"hana", b"hanna", b"hannah",
    b"hans", b"harold", b"harriet", b"harry", b"haruto", b"hassan", b"hayden", b"hazel", b"heather", b"hector",
    b"heike", b"heinz", b"helen", b"helga", b"helmut", b"henrik", b"henry", b"herman", b"hilary", b"hiroshi",
    b"holly", b"horst", b"hubert", b"hugh", b"hugo", b"hui", b"hunter", b"hussein", b"hyun", b"ian",
    b"ibrahim", b"ida", b"ifeoma", b"ignacio", b"igor", b"imogen", b"ines", b"ingrid", b"irene", b"irina",
    b"isaac", b"isabel", b"isabella", b"isabelle", b"isaiah", b"isla", b"ivan", b"ivana", b"ivy", b"jack",
    b"jacob", b"jacqueline", b"jacques", b"jade", b"jaime", b"jakub", b"james", b"jamie", b"jan", b"jana",
    b"janet", b"janice", b"jasmine", b"jason", b"javier", b"jaxon", b"jay", b"jayden", b"jean", b"jeanette",
    b"jeanne", b"jeff", b"jeffery", b"jeffrey", b"jen", b"jenna", b"jennifer", b"jenny", b"jens", b"jeremiah",
    b"jeremy", b"jermaine", b"jerry", b"jess", b"jesse", b"jessica", b"jill", b"jim", b"jing", b"jiri",
    b"joan", b"joann", b"joanna", b"joanne", b"joao", b"joaquin", b"jodi", b"joe", b"joel", b"johan",
    b"johanna", b"john", b"jonas", b"jonathan", b"jordan", b"jorge", b"jose", b"josefa", b"joseph",
    b"josephine", b"joshua", b"josiah", b"joyce", b"juan", b"juanita", b"judith", b"judy", b"julia", b"julie",
    b"julien", b"julio", b"jurgen", b"justin", b"kai", b"kara", b"karen", b"karin", b"karl", b"katarzyna",
    b"kate", b"katherine", b"kathleen", b"kathryn", b"kathy", b"katie", b"katrin", b"kavita", b"kay", b"kayla",
    b"keith", b"kelly", b"kelsey", b"ken", b"kendra", b"kenji", b"kenneth", b"kevin", b"khalid", b"kim",
    b"kimberly", b"kirk", b"klaus", b"kofi", b"krista", b"kristen", b"kristin", b"kristina", b"kristine",
    b"kristy", b"krzysztof", b"kumar", b"kurt", b"kwame", b"kyle", b"lakshmi", b"lamar", b"lance", b"landon",
    b"larry", b"lars", b"latoya", b"laura", b"lauren", b"laurent", b"laurie", b"lawrence", b"layla", b"lea",
    b"leah", b"leila", b"lena", b"lenka", b"leo", b"leon", b"leona", b"leonard", b"leonardo", b"leonie",
    b"leroy", b"leslie", b"lester", b"levi", b"lewis", b"liam", b"lillian", b"lily", b"lin", b"linda",
    b"lindsay", b"lindsey", b"lisa", b"liz", b"lloyd", b"logan", b"lois", b"lopez", b"lorenzo", b"loretta",
    b"lori", b"lorraine", b"luc", b"luca", b"lucas", b"lucia", b"lucie", b"lucille", b"lucy", b"luis",
    b"luisa", b"lukas", b"luna", b"lydia", b"lynda", b"lynn", b"lynne", b"mabel", b"mackenzie", b"madison",
    b"mae", b"magnus", b"mahmoud", b"maja", b"malcolm", b"malgorzata", b"malik", b"manfred", b"manon",
    b"manuel", b"marc", b"marcel", b"marcia", b"marcin", b"marco", b"marcos", b"marcus", b"margaret",
    b"margaux", b"marguerite", b"maria", b"marian", b"mariana", b"marie", b"marija", b"marilyn", b"mario",
    b"marion", b"marissa", b"marjorie", b"mark", b"markus", b"marta", b"martha", b"martin", b"marvin", b"mary",
    b"maryam", b"mason", b"mateo", b"matilda", b"matt", b"matteo", b"matthew", b"matthias", b"mattie",
    b"maureen", b"maurice", b"max", b"maximilian", b"maximo", b"meg", b"megan", b"meghan", b"mei", b"melanie",
    b"melinda", b"melissa", b"melvin", b"mercedes", b"mia", b"michael", b"michal", b"michel", b"michele",
    b"michelle", b"miguel", b"mikael", b"mike", b"mikhail", b"milan", b"mildred", b"milton", b"ming",
    b"minnie", b"miranda", b"misty", b"mitchell", b"mohamed", b"mohammed", b"monica", b"monika", b"morag",
    b"morgan", b"muhammad", b"mustafa", b"myrtle", b"nadia", b"nadine", b"nancy", b"naomi", b"natalia",
    b"natalie", b"natasha", b"nathalie", b"nathan", b"neha", b"neil", b"nellie", b"ngozi", b"niamh",
    b"nicholas", b"nick", b"nicolas", b"nicole", b"nigel", b"nikola", b"nikolai", b"nils", b"nina", b"noah",
    b"noor", b"nora", b"norma", b"norman", b"obinna", b"oleg", b"olga", b"oliver", b"olivia", b"olivier",
    b"oluwaseun", b"omar", b"orlando", b"oscar", b"oswaldo", b"otto", b"owen", b"pablo", b"paige", b"pamela",
    b"paola", b"parker", b"pascal", b"pat", b"patrice", b"patricia", b"patrick", b"patty", b"paul", b"paula",
    b"paulette", b"pauline", b"pavel", b"pawel", b"pearl", b"pedro", b"peg", b"peggy", b"penelope", b"pete",
    b"peter", b"petr", b"petra", b"peyton", b"phil", b"philip", b"philippe", b"phillip", b"phyllis", b"pierre",
    b"pilar", b"piotr", b"pooja", b"poppy", b"preston", b"priscilla", b"priya", b"quinn", b"rachel", b"rafael",
    b"rahul", b"raj", b"rajesh", b"ralph", b"ramesh", b"ramon", b"ramona", b"randy", b"raul", b"ravi", b"ray",
    b"raymond", b"rebecca", b"regina", b"reginald", b"renate", b"renee", b"rhonda", b"rhys", b"ricardo",
    b"richard", b"riley", b"rita", b"rob", b"robert", b"roberta", b"roberto", b"robin", b"rodrigo", b"rogelio",
    b"roger", b"rohan", b"roland", b"ron", b"ronald", b"rosa", b"rosalie", b"rose", b"rosemarie", b"rosemary",
    b"rosie", b"roy", b"ruben", b"ruby", b"rui", b"rupert", b"russell", b"ruth", b"ryan", b"sabine",
    b"sabrina", b"sadie", b"sakura", b"sally", b"salvador", b"sam", b"samantha", b"samira", b"samuel",
    b"sandra", b"sanjay", b"santiago", b"sara", b"sarah", b"saul", b"savannah", b"scott", b"sean",
    b"sebastian", b"seo", b"sergei", b"sergio", b"shane", b"shannon", b"sharon", b"shaun", b"shawn", b"sheila",
    b"shelby", b"shelly", b"sherry", b"shirley", b"sian", b"sigrid", b"silvia", b"simon", b"sinead",
    b"siobhan", b"skylar", b"skyler", b"sofia", b"sonia", b"sonya", b"soo", b"sophia", b"sophie", b"spencer",
    b"stacey", b"stacy", b"stanley", b"stefan", b"stella", b"stephanie", b"stephen", b"steve", b"steven",
    b"stuart", b"sue", b"sunil", b"sunita", b"suresh", b"susan", b"suzanne", b"sven", b"svetlana", b"sydney",
    b"sylvia", b"sylvie", b"tabitha", b"takashi", b"tamara", b"tammy", b"tanya", b"tara", b"tatiana",
    b"taylor", b"teresa", b"terrance", b"terrence", b"terri", b"terry", b"thelma", b"theo", b"theresa",
    b"thierry", b"thomas", b"tiago", b"tiffany", b"tim", b"timothy", b"tina", b"tobias", b"todd", b"tom",
    b"tomas", b"tomasz", b"toni", b"tony", b"tonya", b"tracey", b"traci", b"tracy", b"travis", b"trent",
    b"trevor", b"tristan", b"troy", b"tunde", b"tyler", b"tyrone", b"ursula", b"uwe", b"valentina", b"valerie",
    b"vanessa", b"velma", b"vera", b"verna", b"vernon", b"veronica", b"vicente", b"vicki", b"vickie",
    b"victor", b"victoria", b"vijay", b"vikram", b"vincent", b"viola", b"violet", b"virginia", b"vivian",
    b"vladimir", b"wallace", b"walter", b"wanda", b"warren", b"wayne", b"wei", b"wendy", b"werner", b"wesley",
    b"whitney", b"william", b"willie", b"wilma", b"wojciech", b"wolfgang", b"wyatt", b"xavier", b"xin", b"yan",
    b"yasmin", b"yolanda", b"youssef", b"yuki", b"yusuf", b"yves", b"yvette", b"yvonne", b"zachary", b"zainab",
    b"zoe", b"zofia",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(GIVEN.is_sorted());
    }
}
