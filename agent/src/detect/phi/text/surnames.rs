//! Family names that many people have, in lower case and in order: where a key says that somebody is named, a text that ends in
//! one is his name, whatever his given name.
//!
//! Sources: the lists of most frequent family names of the United States (Census Bureau), China, Vietnam, Korea, India, Japan,
//! Germany, Italy, Brazil, Turkey, and of the Arabic, Slavic and West African diasporas.

use super::super::keys::fold;

/// It is one of them, with or without its accents.
pub(super) fn is_surname(word: &[u8]) -> bool {
    let word = fold(word);
    let lower = || word.iter().map(u8::to_ascii_lowercase);
    SURNAMES
        .binary_search_by(|known| known.iter().copied().cmp(lower()))
        .is_ok()
}

#[rustfmt::skip]
const SURNAMES: &[&[u8]] = &[
    b"abbott", b"abdullah", b"abe", b"acosta", b"adams", b"adebayo", b"adeyemi", b"adkins", b"agarwal", b"agrawal",
    b"aguilar", b"ahmed", b"ahn", b"alexander", b"ali", b"allen", b"allison", b"almeida", b"alvarado", b"alvarez",
    b"anderson", b"andrews", b"anthony", b"armstrong", b"arnold", b"atkins", b"atkinson", b"avila", b"ayala",
    b"aydin", b"ayers", b"bailey", b"baldwin", b"ballard", b"banerjee", b"barnes", b"barnett", b"barr", b"barrett",
    b"bartlett", b"barton", b"bauer", b"baxter", b"beasley", b"becker", b"bennett", b"benson", b"bhat", b"bianchi",
    b"blackwell", b"blair", b"blake", b"blankenship", b"booker", b"boone", b"bowen", b"boyd", b"boyer", b"bradley",
    b"brady", b"briggs", b"brock", b"bruce", b"bryan", b"bryant", b"buchanan", b"bui", b"burgess", b"burke",
    b"burnett", b"burton", b"byrd", b"cai", b"cain", b"caldwell", b"calhoun", b"callahan", b"cameron", b"campbell",
    b"campos", b"cao", b"carey", b"carlson", b"carr", b"carrillo", b"carroll", b"carson", b"carter", b"carvalho",
    b"casey", b"castillo", b"castro", b"celik", b"chang", b"chapman", b"charles", b"chatterjee", b"chaudhary",
    b"chavez", b"chen", b"choi", b"chopra", b"christensen", b"christian", b"clark", b"clarke", b"clayton", b"cline",
    b"cobb", b"cochran", b"cohen", b"cole", b"coleman", b"collins", b"colombo", b"conley", b"conner", b"conti",
    b"contreras", b"conway", b"copeland", b"cortez", b"craig", b"crawford", b"cruz", b"cummings", b"cunningham",
    b"curtis", b"dalton", b"dang", b"daniel", b"daniels", b"davidson", b"davis", b"dawson", b"decker", b"deleon",
    b"delgado", b"demir", b"deng", b"dennis", b"desai", b"diallo", b"diaz", b"dickerson", b"dixon", b"dominguez",
    b"dorsey", b"douglas", b"doyle", b"duncan", b"dunn", b"duong", b"duran", b"eaton", b"edwards", b"elliott",
    b"ellis", b"ellison", b"erickson", b"espinoza", b"esposito", b"estrada", b"evans", b"farrell", b"ferguson",
    b"fernandez", b"ferrari", b"ferreira", b"figueroa", b"fischer", b"fitzgerald", b"fleming", b"fletcher", b"flores",
    b"floyd", b"flynn", b"foley", b"fowler", b"francis", b"franklin", b"frazier", b"gaines", b"gallagher",
    b"gallegos", b"gao", b"garcia", b"gardner", b"garrett", b"garza", b"george", b"ghosh", b"gibbs", b"gibson",
    b"gilbert", b"gilmore", b"glenn", b"glover", b"gomes", b"gomez", b"gonzales", b"gonzalez", b"goodman", b"goodwin",
    b"gordon", b"graham", b"greco", b"greene", b"greer", b"gregory", b"griffith", b"guerra", b"guerrero", b"guo",
    b"gupta", b"gutierrez", b"guzman", b"haddad", b"hammond", b"hampton", b"hancock", b"hansen", b"hanson", b"hardin",
    b"harmon", b"harper", b"harrell", b"harrington", b"harris", b"harrison", b"hartman", b"hartmann", b"harvey",
    b"hashimoto", b"hassan", b"hawkins", b"hayashi", b"hayes", b"haynes", b"henderson", b"henry", b"hensley",
    b"henson", b"hernandez", b"herrera", b"hess", b"hickman", b"higgins", b"hines", b"hobbs", b"hodge", b"hodges",
    b"hoffman", b"hoffmann", b"hofmann", b"holloway", b"holmes", b"holt", b"hoover", b"hopkins", b"horton", b"howard",
    b"howell", b"huang", b"hubbard", b"hudson", b"huffman", b"hughes", b"humphrey", b"hurst", b"hussein",
    b"hutchinson", b"huynh", b"hwang", b"ibrahim", b"ikeda", b"ingram", b"inoue", b"ito", b"ivanov", b"iyer",
    b"jacobs", b"james", b"jang", b"jenkins", b"jennings", b"jensen", b"jeong", b"jiang", b"jimenez", b"johnson",
    b"johnston", b"jones", b"jordan", b"joseph", b"joshi", b"juarez", b"kaminski", b"kang", b"kapoor", b"kato",
    b"kaya", b"keith", b"keller", b"kelley", b"kelly", b"kemp", b"kennedy", b"kent", b"khalil", b"khan", b"kim",
    b"kimura", b"kirby", b"kirk", b"knox", b"kobayashi", b"kohler", b"kowalski", b"kramer", b"krause", b"krishnan",
    b"kruger", b"kumar", b"kuznetsov", b"kwon", b"lambert", b"landry", b"lang", b"lara", b"larsen", b"larson",
    b"lawrence", b"lawson", b"leblanc", b"lehmann", b"leon", b"leonard", b"lester", b"lewandowski", b"lewis",
    b"liang", b"liao", b"lin", b"lindsey", b"lloyd", b"logan", b"lombardi", b"lopez", b"lowe", b"lowery", b"lucas",
    b"luna", b"luo", b"lyons", b"mack", b"maier", b"maldonado", b"malhotra", b"malone", b"mancini", b"mann",
    b"mansour", b"marino", b"marquez", b"marshall", b"martinez", b"massey", b"mathews", b"mathis", b"matsumoto",
    b"matthews", b"maxwell", b"maynard", b"mcbride", b"mccall", b"mccarthy", b"mcclain", b"mcclure", b"mccormick",
    b"mccoy", b"mcdaniel", b"mcdonald", b"mcdowell", b"mcgee", b"mcguire", b"mckee", b"mckenzie", b"mckinney",
    b"mclaughlin", b"mclean", b"medina", b"mehta", b"melton", b"mendez", b"mendoza", b"menon", b"mensah", b"mercado",
    b"merritt", b"meyer", b"meyers", b"mikhailov", b"miranda", b"mishra", b"mitchell", b"mohamed", b"molina",
    b"monroe", b"montoya", b"moore", b"morales", b"moran", b"moreno", b"moretti", b"morgan", b"morris", b"morrison",
    b"morton", b"moses", b"mosley", b"mueller", b"mukherjee", b"muller", b"mullins", b"munoz", b"murphy", b"murray",
    b"myers", b"nair", b"nakamura", b"nascimento", b"nash", b"nasser", b"navarro", b"ndiaye", b"neal", b"nelson",
    b"neumann", b"newman", b"ngo", b"nguyen", b"nichols", b"nicholson", b"nixon", b"norman", b"norris", b"norton",
    b"novikov", b"nowak", b"nunez", b"obrien", b"oconnor", b"okafor", b"okonkwo", b"oliveira", b"oliver", b"olsen",
    b"olson", b"oneal", b"ortega", b"ortiz", b"osborne", b"owen", b"owens", b"owusu", b"ozturk", b"pacheco",
    b"padilla", b"palmer", b"pandey", b"parker", b"parrish", b"patel", b"patrick", b"patterson", b"patton", b"payne",
    b"pearson", b"pena", b"peng", b"pereira", b"perez", b"perkins", b"perry", b"petersen", b"peterson", b"petrov",
    b"pham", b"phan", b"phelps", b"phillips", b"pittman", b"pitts", b"poole", b"popov", b"powell", b"pratt",
    b"pruitt", b"quinn", b"ramirez", b"ramos", b"ramsey", b"randall", b"randolph", b"rao", b"reddy", b"reese",
    b"reid", b"reyes", b"reynolds", b"rhodes", b"ribeiro", b"ricci", b"richard", b"richards", b"richardson",
    b"richter", b"riley", b"rios", b"rivera", b"robbins", b"roberson", b"roberts", b"robertson", b"robinson",
    b"robles", b"rodgers", b"rodrigues", b"rodriguez", b"rodriquez", b"rojas", b"romero", b"ross", b"rossi", b"roth",
    b"rowe", b"ruiz", b"russell", b"ryan", b"sahin", b"saito", b"salazar", b"saleh", b"salinas", b"sanchez",
    b"sandoval", b"santiago", b"santos", b"sasaki", b"sato", b"saunders", b"saxena", b"schafer", b"schmidt",
    b"schmitt", b"schneider", b"schroder", b"schroeder", b"schultz", b"schulz", b"schwartz", b"schwarz", b"scott",
    b"serrano", b"shaffer", b"shah", b"shannon", b"sharma", b"shaw", b"shelton", b"shen", b"sherman", b"shimizu",
    b"silva", b"simmons", b"simon", b"simpson", b"singh", b"sinha", b"skinner", b"sloan", b"smirnov", b"snyder",
    b"sokolov", b"soto", b"souza", b"spencer", b"srinivasan", b"stafford", b"stanley", b"steele", b"stephens",
    b"stephenson", b"stevens", b"stevenson", b"stewart", b"strickland", b"subramanian", b"sullivan", b"sutton",
    b"suzuki", b"swanson", b"sweeney", b"takahashi", b"tanaka", b"tang", b"tate", b"taylor", b"thomas", b"thompson",
    b"thornton", b"todd", b"torres", b"townsend", b"tran", b"traore", b"trevino", b"trivedi", b"trujillo", b"truong",
    b"tyler", b"underwood", b"valdez", b"vance", b"vargas", b"vasiliev", b"vasquez", b"vaughn", b"vazquez", b"vega",
    b"velasquez", b"venkataraman", b"verma", b"villarreal", b"vincent", b"vuong", b"wagner", b"wallace", b"walsh",
    b"walter", b"walters", b"walton", b"wang", b"warner", b"watanabe", b"watkins", b"watson", b"webb", b"weber",
    b"webster", b"wei", b"weiss", b"werner", b"whitaker", b"whitehead", b"wiggins", b"wilcox", b"wiley", b"wilkerson",
    b"wilkins", b"wilkinson", b"williams", b"williamson", b"willis", b"wilson", b"wisniewski", b"wojcik", b"wolfe",
    b"wong", b"woodard", b"wyatt", b"xiao", b"xie", b"yadav", b"yamada", b"yamaguchi", b"yamamoto", b"yang", b"yates",
    b"yildiz", b"yilmaz", b"yoon", b"yoshida", b"yuan", b"zeng", b"zhang", b"zhao", b"zheng", b"zhou", b"zhu",
    b"zielinski", b"zimmerman", b"zimmermann",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(SURNAMES.is_sorted());
    }
}
