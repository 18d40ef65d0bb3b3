//! Made-up matrices: the table of levels, what never raises one, and how a matrix looks.

use proptest::prelude::*;

use super::{
    Answer, Cell, Credential, CredentialKind, Credentials, DeclaredBy, Evidence, EvidenceKind, Finding, Level, Mark,
    Matrix, Missing, Name, Outcome, PodView, PortView, Predicted, Property, Purpose, Reach, VERSION, WorkloadView,
    compare, diff, html, markdown, text,
};

const BEGAN: u64 = 1_790_000_000_000_000_000;

fn name(text: &str) -> Name {
    Name::new("shop", text)
}

fn probe(pod: &str, says: &str) -> Evidence {
    Evidence {
        kind: EvidenceKind::Probe,
        id: "00c0ffee".into(),
        namespace: "shop".into(),
        pod: format!("{pod}-7c9-x2x"),
        at_ns: BEGAN,
        says: says.into(),
    }
}

fn no() -> Finding {
    Finding::new(Answer::No, "in clear")
}

/// A cell that is open and readable.
fn cell(from: &str, to: &str, port: u16, declared: bool) -> Cell {
    let packet = Evidence {
        kind: EvidenceKind::Packet,
        id: "14".into(),
        ..probe(to, "HTTP in clear: POST /charge")
    };
    Cell {
        from: name(from),
        to: name(to),
        port,
        purpose: Purpose::Application,
        declared: Some(declared),
        reach: Reach::Allowed,
        reachable: Finding::new(Answer::Yes, "the connection opens").with([probe(from, "tcp 10.0.0.5:80: connected")]),
        readable: Finding::new(Answer::Yes, "what it says can be read on the wire").with([packet]),
        server_authenticated: no(),
        client_authenticated: no(),
        authorised_by_identity: no(),
        credentials: Credentials::default(),
    }
}

fn workload(text: &str, port: Option<u16>) -> WorkloadView {
    let port = port.map(|port| PortView {
        port,
        target: 8080,
        service: Some(text.to_owned()),
        purpose: Purpose::Application,
        alive: Finding::new(Answer::Yes, "it answered"),
    });
    WorkloadView {
        name: name(text),
        kind: "Deployment".into(),
        pods: vec![PodView {
            name: format!("{text}-7c9-x2x"),
            ip: Some("10.244.0.5".into()),
            running: true,
        }],
        ports: port.into_iter().collect(),
    }
}

/// The flat shop: everybody reaches everybody in clear.
pub fn flat() -> Matrix {
    let ports = [
        ("frontend", Some(80)),
        ("ledger", Some(5432)),
        ("mallory", None),
        ("orders-api", Some(80)),
        ("payments-api", Some(80)),
    ];
    let declared = [
        ("frontend", "orders-api"),
        ("orders-api", "payments-api"),
        ("payments-api", "ledger"),
    ];
    let mut cells = Vec::new();
    for (from, _) in ports {
        for (to, port) in ports.iter().filter(|(to, _)| *to != from) {
            cells.extend(port.map(|port| cell(from, to, port, declared.contains(&(from, to)))));
        }
    }
    Matrix {
        version: VERSION,
        namespaces: vec!["shop".into()],
        began_ns: BEGAN,
        took_ms: 1400,
        declared_by: DeclaredBy::Annotations,
        trust_domain: None,
        workloads: ports.iter().map(|(name, port)| workload(name, *port)).collect(),
        cells,
        missing: Vec::new(),
        notes: Vec::new(),
    }
}

fn refuse(cell: &mut Cell) {
    cell.reach = Reach::TimedOut;
    cell.reachable = Finding::new(Answer::No, "no answer, while the callee answers others or itself");
    cell.readable = Finding::new(Answer::No, "nothing gets through");
    for finding in [
        &mut cell.server_authenticated,
        &mut cell.client_authenticated,
        &mut cell.authorised_by_identity,
    ] {
        *finding = Finding::undetermined("nothing gets through");
    }
}

fn segmented() -> Matrix {
    let mut matrix = flat();
    matrix
        .cells
        .iter_mut()
        .filter(|cell| cell.declared == Some(false))
        .for_each(refuse);
    matrix
}

fn encrypt(cell: &mut Cell, kind: CredentialKind, identity: &str, lives: i64, rotated: Answer) {
    let credential = Credential {
        kind,
        identity: identity.into(),
        issuer: "CN=shop CA".into(),
        not_before: Some(1_790_000_000),
        not_after: Some(1_790_000_000 + lives),
        rotated,
        ..Credential::of(kind, "")
    };
    cell.readable = Finding::new(Answer::No, "what is said is encrypted");
    cell.server_authenticated = Finding::new(Answer::Yes, "it showed a certificate");
    cell.client_authenticated = Finding::new(Answer::Yes, "a client without a certificate was refused");
    cell.authorised_by_identity = Finding::undetermined("not measured");
    cell.credentials = Credentials {
        server: Some(credential.clone()),
        client: Some(credential),
    };
}

fn declared(matrix: &mut Matrix, change: impl Fn(&mut Cell)) {
    matrix
        .cells
        .iter_mut()
        .filter(|cell| cell.declared == Some(true))
        .for_each(change);
}

fn mutual() -> Matrix {
    let mut matrix = segmented();
    declared(&mut matrix, |cell| {
        encrypt(
            cell,
            CredentialKind::X509,
            "orders-api",
            90 * 86_400,
            Answer::Undetermined,
        )
    });
    matrix
}

fn spiffe() -> Matrix {
    let mut matrix = segmented();
    let id = "spiffe://shop.example/ns/shop/sa/orders-api";
    declared(&mut matrix, |cell| {
        encrypt(cell, CredentialKind::X509Svid, id, 3610, Answer::Yes)
    });
    matrix
}

fn authorised() -> Matrix {
    let mut matrix = spiffe();
    declared(&mut matrix, |cell| {
        cell.authorised_by_identity = Finding::new(Answer::Yes, "others get 403, and are logged")
    });
    matrix
}

fn level(matrix: &Matrix) -> Level {
    matrix.level().level
}

/// Why the next level is not reached: its first cell and the reason.
fn first(matrix: &Matrix) -> (String, String) {
    let report = matrix.level();
    let rule = report.rules.iter().find(|rule| rule.holds != Answer::Yes).unwrap();
    let first = rule.first.clone().unwrap();
    (first.edge, first.because)
}

fn at<'a>(matrix: &'a mut Matrix, from: &str, to: &str) -> &'a mut Cell {
    matrix
        .cells
        .iter_mut()
        .find(|cell| cell.from.is(from) && cell.to.is(to))
        .unwrap()
}

#[test]
fn each_level_is_what_the_table_says() {
    for (matrix, expected) in [
        (flat(), 0),
        (segmented(), 1),
        (mutual(), 2),
        (spiffe(), 3),
        (authorised(), 4),
    ] {
        assert_eq!(level(&matrix), Level::Is(expected), "{:#?}", matrix.level());
    }
    assert_eq!(first(&flat()).0, "frontend → ledger:5432");
    assert_eq!(
        first(&segmented()),
        (
            "frontend → orders-api:80".into(),
            "what it says can be read on the wire".into()
        )
    );
    assert!(first(&mutual()).1.contains("no SVID"), "{:?}", first(&mutual()));
    assert_eq!(first(&spiffe()).1, "not measured");
}

#[test]
fn without_a_declaration_the_level_is_unknown() {
    let mut matrix = authorised();
    matrix.declared_by = DeclaredBy::Nobody;
    matrix.cells.iter_mut().for_each(|cell| cell.declared = None);
    assert_eq!(level(&matrix), Level::Unknown);
    assert!(!Level::Unknown.reaches(0) && Level::Is(0).reaches(0) && !Level::Is(1).reaches(2));
    matrix.declared_by = DeclaredBy::Given;
    matrix.cells.clear();
    assert_eq!(level(&matrix), Level::Unknown, "nothing was measured");
}

#[test]
fn what_breaks_a_level_is_named() {
    type Start = fn() -> Matrix;
    type Change = fn(&mut Matrix);
    let cases: [(Start, Change, u8, &str); 14] = [
        (
            authorised,
            |m| at(m, "mallory", "ledger").reach = Reach::Allowed,
            0,
            "the connection opens",
        ),
        (
            authorised,
            |m| at(m, "mallory", "ledger").reach = Reach::Undetermined,
            0,
            "no answer",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").readable = Finding::new(Answer::Yes, "read"),
            1,
            "read",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").readable = Finding::undetermined("silent"),
            1,
            "silent",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").client_authenticated = no(),
            1,
            "in clear",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").client_authenticated = Finding::undetermined("untried"),
            1,
            "untried",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").server_authenticated = no(),
            1,
            "in clear",
        ),
        (
            authorised,
            |m| refuse(at(m, "orders-api", "payments-api")),
            1,
            "nothing to look at",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").credentials.client = None,
            2,
            "client's credential was not seen",
        ),
        (authorised, |m| life(m, 3 * 3600), 2, "lives 3 h"),
        (authorised, |m| rotated(m, Answer::No), 2, "did not rotate"),
        (authorised, |m| rotated(m, Answer::Undetermined), 2, "not measured"),
        (
            authorised,
            |m| domain(m, "spiffe://evil.example/ns/shop/sa/orders-api"),
            2,
            "trust domain is evil.example",
        ),
        (
            authorised,
            |m| at(m, "orders-api", "payments-api").authorised_by_identity = no(),
            3,
            "in clear",
        ),
    ];
    for (start, change, expected, reason) in cases {
        let mut matrix = start();
        change(&mut matrix);
        assert_eq!(level(&matrix), Level::Is(expected), "{reason}");
        assert!(first(&matrix).1.contains(reason), "{:?}: {reason}", first(&matrix));
    }
}

fn server(matrix: &mut Matrix) -> &mut Credential {
    at(matrix, "orders-api", "payments-api")
        .credentials
        .server
        .as_mut()
        .unwrap()
}

fn life(matrix: &mut Matrix, lives: i64) {
    server(matrix).not_after = Some(1_790_000_000 + lives);
}

fn rotated(matrix: &mut Matrix, answer: Answer) {
    server(matrix).rotated = answer;
}

fn domain(matrix: &mut Matrix, id: &str) {
    server(matrix).identity = id.into();
}

#[test]
fn a_declared_call_that_is_not_there_keeps_the_level_at_segmentation() {
    let mut matrix = authorised();
    matrix.missing.push(Missing {
        edge: "web → api:80".into(),
        because: "there is no workload `api`".into(),
    });
    assert_eq!(level(&matrix), Level::Is(1));
    let mut alone = segmented();
    alone.cells.retain(|cell| cell.declared == Some(false));
    assert_eq!(
        level(&alone),
        Level::Is(1),
        "nothing declared was looked at, so nothing is mutual TLS"
    );
}

#[test]
fn a_wanted_trust_domain_is_held_to() {
    let mut matrix = spiffe();
    matrix.trust_domain = Some("other.example".into());
    assert_eq!(level(&matrix), Level::Is(2));
    assert!(first(&matrix).1.contains("not other.example"));
}

#[test]
fn predictions_are_compared_with_what_was_measured() {
    let mut matrix = segmented();
    at(&mut matrix, "mallory", "payments-api").reach = Reach::Undetermined;
    at(&mut matrix, "mallory", "payments-api").reachable = Finding::undetermined("dead");
    let says = |from: &str, to: &str, port, property, yes| Predicted {
        from: from.into(),
        to: to.into(),
        port,
        property,
        yes,
    };
    let predicted = [
        says("mallory", "ledger", Some(5432), Property::Reachable, false),
        says("mallory", "ledger", None, Property::Reachable, true),
        says("shop/orders-api", "payments-api", Some(80), Property::Readable, true),
        says("mallory", "payments-api", None, Property::Reachable, false),
        says("mallory", "ledger", Some(80), Property::Reachable, false),
        says("nobody", "ledger", None, Property::Reachable, false),
    ];
    let comparison = compare(&predicted, &matrix);
    let outcomes: Vec<Outcome> = comparison.cells.iter().map(|cell| cell.outcome).collect();
    use Outcome::{NoSuchCell, Right, Undetermined, Wrong};
    assert_eq!(outcomes, [Right, Wrong, Right, Undetermined, NoSuchCell, NoSuchCell]);
    assert_eq!(
        (comparison.right(), comparison.total(), comparison.all_right()),
        (2, 6, false)
    );
    assert!(compare(&predicted[..1], &matrix).all_right() && !compare(&[], &matrix).all_right());
}

#[test]
fn two_measurements_show_what_became_of_each_edge() {
    let mut after = mutual();
    for cell in after.cells.iter_mut().filter(|cell| cell.to.is("payments-api")) {
        cell.port = 443;
    }
    after.cells.retain(|cell| !cell.to.is("frontend"));
    after.cells.push(cell("web", "orders-api", 80, false));
    let changes = diff(&flat(), &after);
    let of = |edge: &str| changes.iter().find(|change| change.edge == edge).unwrap();
    let seen = |edge: &str| (of(edge).before, of(edge).after);
    assert_eq!(
        seen("orders-api → payments-api:443"),
        (Some(Mark::Readable), Some(Mark::Mutual))
    );
    assert_eq!(
        seen("mallory → ledger:5432"),
        (Some(Mark::Readable), Some(Mark::Refused))
    );
    assert_eq!(seen("mallory → frontend:80"), (Some(Mark::Readable), None));
    assert_eq!(seen("web → orders-api:80"), (None, Some(Mark::Readable)));
    assert!(of("orders-api → payments-api:443").declared && !of("mallory → ledger:5432").declared);
    assert_eq!(changes.len(), 17);
    assert!(diff(&flat(), &flat()).iter().all(super::Change::is_same));
}

#[test]
fn a_matrix_survives_json() {
    let matrix = spiffe();
    let json = serde_json::to_string(&matrix).unwrap();
    assert_eq!(serde_json::from_str::<Matrix>(&json).unwrap(), matrix);
}

#[test]
fn the_faces_of_a_matrix() {
    let mut matrix = mutual();
    at(&mut matrix, "mallory", "payments-api").reach = Reach::Allowed;
    matrix
        .notes
        .push("the pod x cannot be looked from: it is being deleted".into());
    insta::assert_snapshot!("flat_text", text::text(&flat(), 80));
    insta::assert_snapshot!("mutual_text", text::text(&matrix, 80));
    insta::assert_snapshot!("mutual_markdown", markdown::markdown(&matrix, 1));
    insta::assert_snapshot!("mutual_html", html::html(&matrix));
}

#[test]
fn many_ports_are_numbered_and_fit_the_terminal() {
    let mut matrix = flat();
    let many: Vec<WorkloadView> = (0..24)
        .map(|at| workload(&format!("a-workload-with-a-long-name-{at}"), Some(80)))
        .collect();
    matrix.workloads.extend(many);
    let shown = text::text(&matrix, 80);
    assert!(shown.contains("[28]"), "{shown}");
    assert!(shown.lines().all(|line| crate::text::width(line) <= 80), "{shown}");
    let wide = text::text(&flat(), 200);
    assert!(
        wide.lines().any(|line| crate::text::width(line) > 80),
        "a wide one is used: {wide}"
    );
}

/// Names are whatever somebody wrote into an object of the API.
#[test]
fn names_are_shown_and_never_become_markup() {
    let evil = "</title><script>alert(1)</script>\"'& [x](javascript:y) `|*_ \u{1b}[2J\u{202e}";
    let mut matrix = flat();
    matrix.namespaces = vec![evil.into()];
    matrix.notes = vec![evil.into()];
    matrix.missing = vec![Missing {
        edge: evil.into(),
        because: evil.into(),
    }];
    for workload in &mut matrix.workloads {
        workload.name.name.push_str(evil);
    }
    for cell in &mut matrix.cells {
        cell.from.name.push_str(evil);
        cell.to.name.push_str(evil);
        cell.readable.because = evil.into();
        cell.reachable.evidence = vec![probe(evil, evil)];
    }
    let page = html::html(&matrix);
    assert!(!page.contains("<script"), "{page}");
    for face in [page, markdown::markdown(&matrix, 1), text::text(&matrix, 80)] {
        assert!(!face.contains('\u{1b}') && !face.contains('\u{202e}'));
    }
    let page = markdown::markdown(&matrix, 1);
    assert!(
        !page.contains("<script") && !page.contains("](javascript") && !page.contains('`'),
        "{page}"
    );
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![Just(Answer::Yes), Just(Answer::No), Just(Answer::Undetermined)]
}

fn any_matrix() -> impl Strategy<Value = Matrix> {
    let cells = proptest::collection::vec((answers(), answers(), answers(), answers()), 16);
    (
        cells,
        prop_oneof![
            Just(flat()),
            Just(segmented()),
            Just(mutual()),
            Just(spiffe()),
            Just(authorised())
        ],
        0.0..1.0_f64,
    )
        .prop_map(|(cells, mut matrix, share)| {
            let some = (cells.len() as f64 * share) as usize;
            for (cell, (reach, readable, client, authorised)) in matrix.cells.iter_mut().zip(cells).take(some) {
                cell.reach = match reach {
                    Answer::Yes => Reach::Allowed,
                    Answer::No => Reach::Refused,
                    Answer::Undetermined => Reach::Undetermined,
                };
                cell.readable.answer = readable;
                cell.client_authenticated.answer = client;
                cell.authorised_by_identity.answer = authorised;
            }
            matrix
        })
}

proptest! {
    #[test]
    fn an_open_call_that_nobody_declares_never_raises_the_level(matrix in any_matrix(), at in 0_usize..16) {
        let before = level(&matrix);
        let mut with = matrix.clone();
        with.cells.push(cell("spoof", "ledger", 5432, false));
        prop_assert!(level(&with) <= before);
        prop_assert_eq!(level(&with), Level::Is(0));
        let mut opened = matrix.clone();
        opened.cells[at].reach = Reach::Allowed;
        if opened.cells[at].declared == Some(false) {
            prop_assert_eq!(level(&opened), Level::Is(0));
        }
    }

    #[test]
    fn a_readable_call_never_raises_the_level(matrix in any_matrix(), at in 0_usize..16) {
        let before = level(&matrix);
        let mut with = matrix.clone();
        with.cells.push(cell("frontend", "ledger", 80, true));
        prop_assert!(level(&with) <= before);
        prop_assert!(level(&with) <= Level::Is(1));
        let mut read = matrix.clone();
        read.cells[at].readable.answer = Answer::Yes;
        prop_assert!(level(&read) <= before);
    }

    #[test]
    fn what_is_not_known_never_raises_the_level(matrix in any_matrix(), at in 0_usize..16) {
        let before = level(&matrix);
        let mut less = matrix.clone();
        less.cells[at].reach = Reach::Undetermined;
        prop_assert!(level(&less) <= before);
        let mut less = matrix.clone();
        less.cells[at].client_authenticated.answer = Answer::Undetermined;
        prop_assert!(level(&less) <= before);
    }

    #[test]
    fn a_text_of_any_names_fits_the_terminal(columns in 40..=200usize, names in proptest::collection::vec("\\PC{0,40}", 5)) {
        let mut matrix = flat();
        for (workload, name) in matrix.workloads.iter_mut().zip(names) {
            workload.name.name = name;
        }
        let shown = text::text(&matrix, columns);
        prop_assert!(shown.lines().all(|line| crate::text::width(line) <= columns), "{}", shown);
    }
}
