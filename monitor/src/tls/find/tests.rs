//! Small files made for one case each, and what this machine has.

use std::io::Write as _;
use std::path::Path;

use super::*;

/// Where code and data of the small files are mapped.
const CODE: u64 = 0x0040_1000;
const DATA: u64 = 0x0040_4000;
const FILE_CODE: usize = 0x1000;
const FILE_DATA: usize = 0x4000;

const LABELS: [&str; 5] = [
    "CLIENT_RANDOM",
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
];

/// A file that is made up.
struct Made {
    machine: u16,
    kind: u16,
    code: Vec<u8>,
    data: Vec<u8>,
    symbols: Vec<(&'static str, u64)>,
    named: Vec<(&'static str, u64, u64)>,
}

impl Made {
    fn new(machine: u16) -> Self {
        Self { machine, kind: 3, code: Vec::new(), data: Vec::new(), symbols: Vec::new(), named: Vec::new() }
    }

    fn x86() -> Self {
        Self::new(62)
    }

    /// Puts a text into the data; gives its address.
    fn text(&mut self, text: &str) -> u64 {
        let at = DATA + self.data.len() as u64;
        self.data.extend_from_slice(text.as_bytes());
        self.data.push(0);
        at
    }

    /// The next function begins here.
    fn function(&mut self) -> u64 {
        self.code.resize(self.code.len().next_multiple_of(16), 0xcc);
        CODE + self.code.len() as u64
    }

    fn here(&self) -> u64 {
        CODE + self.code.len() as u64
    }

    fn relative(&mut self, opcode: &[u8], target: u64) {
        self.code.extend_from_slice(opcode);
        let distance = target.wrapping_sub(self.here() + 4) as i32;
        self.code.extend_from_slice(&distance.to_le_bytes());
    }

    /// `lea rsi, [rip + label]; mov edx, 32; call function`.
    fn x86_call(&mut self, label: u64, function: u64) {
        self.relative(&[0x48, 0x8d, 0x35], label);
        self.code.extend_from_slice(&[0xba, 32, 0, 0, 0]);
        self.relative(&[0xe8], function);
    }

    /// `adrp x1; add x1, x1, …; mov x3, …; bl function`.
    fn arm_call(&mut self, label: u64, function: u64) {
        let pages = ((label & !0xfff).wrapping_sub(self.here() & !0xfff) >> 12) as u32;
        let adrp = 0x9000_0001 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
        let add = 0x9100_0021 | (label as u32 & 0xfff) << 10;
        for word in [adrp, add, 0xd280_0403] {
            self.code.extend_from_slice(&word.to_le_bytes());
        }
        let words = (function.wrapping_sub(self.here()) as i64 / 4) as u32;
        self.code.extend_from_slice(&(0x9400_0000 | words & 0x03ff_ffff).to_le_bytes());
    }

    /// The file: code and data in segments of their own, behind them tables of symbols and sections, if there are any.
    fn bytes(&self) -> Vec<u8> {
        let word = |n: u64| n.to_le_bytes();
        let mut file = vec![0u8; FILE_DATA];
        file[FILE_CODE..FILE_CODE + self.code.len()].copy_from_slice(&self.code);
        file.extend_from_slice(&self.data);
        let mut names = vec![0u8];
        let mut symbols = vec![0u8; 24];
        for (name, at) in &self.symbols {
            let place = names.len() as u32;
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            symbols.extend_from_slice(&place.to_le_bytes());
            symbols.extend_from_slice(&[2, 0, 1, 0]);
            symbols.extend_from_slice(&[word(*at), word(16)].concat());
        }
        let mut section_names = vec![0u8];
        let mut sections = vec![0u8; 64];
        let mut section = |name: &str, kind: u32, addr: u64, offset: usize, size: usize, link: u32| {
            let place = section_names.len() as u32;
            section_names.extend_from_slice(name.as_bytes());
            section_names.push(0);
            sections.extend_from_slice(&[place.to_le_bytes(), kind.to_le_bytes()].concat());
            sections.extend_from_slice(&[word(2), word(addr), word(offset as u64), word(size as u64)].concat());
            sections.extend_from_slice(&[link.to_le_bytes(), 0u32.to_le_bytes()].concat());
            sections.extend_from_slice(&[word(8), word(24)].concat());
        };
        section(".symtab", 2, 0, file.len(), symbols.len(), 2);
        section(".strtab", 3, 0, file.len() + symbols.len(), names.len(), 0);
        for (name, addr, size) in &self.named {
            section(name, 1, *addr, FILE_DATA + (addr - DATA) as usize, *size as usize, 0);
        }
        file.extend_from_slice(&symbols);
        file.extend_from_slice(&names);
        let at = file.len();
        let (mut names, mut table) = (section_names, sections);
        let place = names.len() as u32;
        names.extend_from_slice(b".shstrtab\0");
        table.extend_from_slice(&[place.to_le_bytes(), 3u32.to_le_bytes()].concat());
        table.extend_from_slice(&[word(0), word(0), word(at as u64), word(names.len() as u64)].concat());
        table.extend_from_slice(&[word(0), word(1), word(0)].concat());
        file.extend_from_slice(&names);
        let sections_at = file.len() as u64;
        let count = (table.len() / 64) as u16;
        file.extend_from_slice(&table);

        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(16, 0);
        header.extend_from_slice(&[self.kind.to_le_bytes(), self.machine.to_le_bytes()].concat());
        header.extend_from_slice(&1u32.to_le_bytes());
        header.extend_from_slice(&[word(CODE), word(64), word(sections_at)].concat());
        header.extend_from_slice(&0u32.to_le_bytes());
        for half in [64u16, 56, 2, 64, count, count - 1] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        let parts = [(5u32, FILE_CODE, CODE, self.code.len()), (6, FILE_DATA, DATA, self.data.len())];
        for (flags, offset, addr, size) in parts {
            header.extend_from_slice(&[1u32.to_le_bytes(), flags.to_le_bytes()].concat());
            let size = word(size as u64);
            header.extend_from_slice(&[word(offset as u64), word(addr), word(addr), size, size, word(0x1000)].concat());
        }
        file[..header.len()].copy_from_slice(&header);
        file
    }

    fn find(&self) -> Findings {
        find_in(&self.bytes())
    }
}

fn find_in(bytes: &[u8]) -> Findings {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    find(&file).unwrap()
}

fn offset(addr: u64) -> u64 {
    addr - CODE + FILE_CODE as u64
}

fn found(layout: Layout, way: Way, addr: u64) -> Vec<Found> {
    vec![Found { offset: offset(addr), layout, way }]
}

/// A file whose labels are all logged by one function, and by another one as many as are asked for.
fn made(machine: u16, others: usize) -> (Made, u64) {
    let mut made = Made::new(machine);
    let labels = LABELS.map(|l| made.text(l));
    let function = made.function();
    made.code.extend_from_slice(&[0xc3; 16]);
    let other = made.function();
    made.code.extend_from_slice(&[0xc3; 16]);
    made.function();
    for label in labels {
        if machine == 62 { made.x86_call(label, function) } else { made.arm_call(label, function) }
    }
    for label in labels.into_iter().take(others) {
        if machine == 62 { made.x86_call(label, other) } else { made.arm_call(label, other) }
    }
    (made, function)
}

/// A file with a function that is found, and one with two that may be it.
pub(in crate::tls) fn sample(unique: bool) -> Vec<u8> {
    made(62, if unique { 0 } else { 5 }).0.bytes()
}

#[test]
fn the_function_that_labels_are_given_to_is_found_on_both_processors() {
    for machine in [62, 183] {
        let (made, function) = made(machine, 0);
        let findings = made.find();
        assert_eq!(findings.found, found(Layout::C, Way::Label, function), "{machine}");
        assert!(findings.labels && findings.ambiguous.is_empty());
    }
}

#[test]
fn of_two_candidates_neither_is_taken() {
    for machine in [62, 183] {
        for others in [2, 4, 5] {
            let (made, _) = made(machine, others);
            let findings = made.find();
            assert_eq!((findings.found, findings.ambiguous), (vec![], vec![Layout::C]), "{machine}, {others}");
        }
        // One label alone that goes elsewhere is outvoted.
        let (made, function) = made(machine, 1);
        assert_eq!(made.find().found, found(Layout::C, Way::Label, function));
    }
}

/// As OpenSSL has it: the other labels are chosen beforehand, and then given to whatever comes next.
#[test]
fn where_nothing_else_is_agreed_on_the_master_secret_s_label_decides() {
    let mut made = Made::x86();
    let labels = LABELS.map(|l| made.text(l));
    let function = made.function();
    made.code.extend_from_slice(&[0xc3; 16]);
    let next: Vec<u64> = labels.iter().map(|_| made.function()).inspect(|_| ()).collect();
    let mut misled = Vec::new();
    for _ in &next {
        misled.push(made.function());
        made.code.extend_from_slice(&[0xc3; 16]);
    }
    made.function();
    for (label, target) in labels.iter().zip(&misled).skip(1) {
        made.x86_call(*label, *target);
    }
    made.x86_call(labels[0], function);
    // Called once only: that may be bytes that look like a call.
    assert_eq!(made.find().found, []);
    made.relative(&[0xe8], function);
    assert_eq!(made.find().found, found(Layout::C, Way::Label, function));
}

#[test]
fn an_executable_at_a_fixed_address_may_hold_labels_addresses_as_they_are() {
    let mut made = Made::x86();
    made.kind = 2;
    let labels = LABELS.map(|l| made.text(l));
    let function = made.function();
    made.code.extend_from_slice(&[0xc3; 16]);
    for label in labels {
        made.code.push(0xbe);
        made.code.extend_from_slice(&(label as u32).to_le_bytes());
        made.relative(&[0xe8], function);
    }
    assert_eq!(made.find().found, found(Layout::C, Way::Label, function));
    made.kind = 3;
    assert_eq!(made.find().found, [], "elsewhere such a number is no address");
}

#[test]
fn a_label_that_is_kept_for_later_or_is_part_of_another_text_says_nothing() {
    let mut made = Made::x86();
    let labels = LABELS.map(|l| made.text(l));
    let function = made.function();
    made.code.extend_from_slice(&[0xc3; 16]);
    for label in labels {
        // `lea rbx, …`.
        made.relative(&[0x48, 0x8d, 0x1d], label);
        made.relative(&[0xe8], function);
    }
    let findings = made.find();
    assert_eq!(findings.found, []);
    assert!(findings.labels, "the file speaks of TLS");

    let mut made = Made::x86();
    let labels = LABELS.map(|l| made.text(&format!("{l}_1")));
    let function = made.function();
    for label in labels {
        made.x86_call(label, function);
    }
    assert_eq!(made.find().found, []);
}

#[test]
fn symbols_are_taken_by_their_whole_name() {
    let with = |symbols: &[(&'static str, u64)]| {
        let mut made = Made::x86();
        made.text("CLIENT_RANDOM");
        made.code.extend_from_slice(&[0xc3; 256]);
        made.symbols.extend_from_slice(symbols);
        made.find()
    };
    let c = |at| found(Layout::C, Way::Symbol, at);
    assert_eq!(with(&[("ssl_log_secret", CODE)]).found, c(CODE));
    assert_eq!(with(&[("_ZN4bssl14ssl_log_secretEPK6ssl_stPKcNS_4SpanIKhEE", CODE + 16)]).found, c(CODE + 16));
    assert_eq!(with(&[("ssl_log_secret.lto_priv.0", CODE + 16)]).found, c(CODE + 16));
    assert_eq!(with(&[("nss_keylog_int", CODE), ("ssl_log_secret", CODE + 32)]).found, c(CODE + 32), "the caller");
    let rust = "_ZN6rustls5tls1312key_schedule11KeySchedule20derive_logged_secret17h0123456789abcdefE";
    assert_eq!(with(&[(rust, CODE)]).found, found(Layout::Rust, Way::Symbol, CODE));
    for other in ["ssl_log_secret.cold", "ssl_log_secret.constprop.0", "my_ssl_log_secret", "ssl_log_secret2"] {
        assert_eq!(with(&[(other, CODE)]).found, [], "{other}");
    }
    let twice = with(&[("ssl_log_secret", CODE), ("ssl_log_secret", CODE + 16)]);
    assert_eq!((twice.found, twice.ambiguous), (vec![], vec![Layout::C]));
}

/// A table of functions as a version of Go writes it, with these functions.
fn go_table(magic: u32, functions: &[(&str, u64)], text_start: u64) -> Vec<u8> {
    let word = |n: u64| n.to_le_bytes().to_vec();
    let mut names = Vec::new();
    let places: Vec<u32> = functions
        .iter()
        .map(|(name, _)| {
            let at = names.len() as u32;
            names.extend_from_slice(name.as_bytes());
            names.push(0);
            at
        })
        .collect();
    let mut table = magic.to_le_bytes().to_vec();
    table.extend_from_slice(&[0, 0, 1, 8]);
    let n = functions.len() as u64;
    match magic {
        0xffff_fffb => {
            table.extend(word(n));
            let records = 16 + 16 * functions.len();
            for (i, (_, at)) in functions.iter().enumerate() {
                table.extend(word(*at));
                table.extend(word((records + 16 * i) as u64));
            }
            let names_at = (records + 16 * functions.len()) as u32;
            for ((_, at), place) in functions.iter().zip(&places) {
                table.extend(word(*at));
                table.extend_from_slice(&[(names_at + place).to_le_bytes(), [0; 4]].concat());
            }
            table.extend(names);
        }
        0xffff_fffa => {
            let names_at = 8 + 7 * 8;
            let functions_at = names_at + names.len().next_multiple_of(8);
            for field in [n, 0, names_at as u64, 0, 0, 0, functions_at as u64] {
                table.extend(word(field));
            }
            table.extend(names);
            table.resize(functions_at, 0);
            for (i, (_, at)) in functions.iter().enumerate() {
                table.extend(word(*at));
                table.extend(word((16 * functions.len() + 16 * i) as u64));
            }
            for ((_, at), place) in functions.iter().zip(&places) {
                table.extend(word(*at));
                table.extend_from_slice(&[place.to_le_bytes(), [0; 4]].concat());
            }
        }
        _ => {
            let names_at = 8 + 8 * 8;
            let functions_at = names_at + names.len().next_multiple_of(8);
            for field in [n, 0, text_start, names_at as u64, 0, 0, 0, functions_at as u64] {
                table.extend(word(field));
            }
            table.extend(names);
            table.resize(functions_at, 0);
            for (i, (_, at)) in functions.iter().enumerate() {
                table.extend_from_slice(&((at - CODE) as u32).to_le_bytes());
                table.extend_from_slice(&((8 * functions.len() + 8 * i) as u32).to_le_bytes());
            }
            for ((_, at), place) in functions.iter().zip(&places) {
                table.extend_from_slice(&[((at - CODE) as u32).to_le_bytes(), place.to_le_bytes()].concat());
            }
        }
    }
    table
}

const WRITE_KEY_LOG: &str = "crypto/tls.(*Config).writeKeyLog";

#[test]
fn go_s_function_is_found_in_every_version_of_its_table() {
    let functions =
        [("runtime.text", CODE), (WRITE_KEY_LOG, CODE + 0x40), ("crypto/tls.(*Config).writeKeyLog.func1", CODE + 0x80)];
    for magic in [0xffff_fffb, 0xffff_fffa, 0xffff_fff0, 0xffff_fff1] {
        for named in [true, false] {
            let mut made = Made::x86();
            made.text("CLIENT_RANDOM");
            made.data.resize(64, 0);
            made.code.resize(256, 0xcc);
            let table = go_table(magic, &functions, CODE);
            if named {
                made.named.push((".gopclntab", DATA + 64, table.len() as u64));
            }
            made.data.extend(table);
            assert_eq!(made.find().found, found(Layout::Go, Way::GoTable, CODE + 0x40), "{magic:x}, {named}");
        }
    }
}

/// From Go 1.26 on the table does not say where the code begins; the run-time's own data does, and they must agree.
#[test]
fn where_go_s_code_begins_is_told_by_its_run_time() {
    let functions = [("runtime.text", CODE + 0x100), (WRITE_KEY_LOG, CODE + 0x140)];
    let with = |least: u64| {
        let mut made = Made::x86();
        made.text("CLIENT_RANDOM");
        made.data.resize(64, 0);
        made.code.resize(1024, 0xcc);
        // The distances in the table are from CODE; the code begins 0x80 behind that.
        let table = go_table(0xffff_fff1, &functions, 0);
        let mut module = vec![0u8; 8 + 6 * 24 + 8 + 24];
        module[..8].copy_from_slice(&(DATA + 64).to_le_bytes());
        module[160..168].copy_from_slice(&least.to_le_bytes());
        module[176..184].copy_from_slice(&(CODE + 0x80).to_le_bytes());
        made.named.push((".gopclntab", DATA + 64, table.len() as u64));
        made.data.extend(table);
        made.data.resize(made.data.len().next_multiple_of(8), 0);
        made.data.extend(module);
        made.find().found
    };
    assert_eq!(with(CODE + 0x180), found(Layout::Go, Way::GoTable, CODE + 0x1c0));
    assert_eq!(with(CODE + 0x188), [], "the least address is not that of the first function");
}

#[test]
fn whatever_a_file_says_of_itself_nothing_panics() {
    let (mut with_labels, _) = made(62, 2);
    with_labels.symbols.push(("ssl_log_secret", CODE));
    with_labels.data.resize(with_labels.data.len().next_multiple_of(8), 0);
    let at = DATA + with_labels.data.len() as u64;
    let table = go_table(0xffff_fff1, &[("a", CODE), (WRITE_KEY_LOG, CODE + 16)], CODE);
    with_labels.named.push((".gopclntab", at, table.len() as u64));
    with_labels.data.extend(table);
    let whole = with_labels.bytes();
    assert_eq!(find_in(&whole).found.len(), 2);
    for n in (0..whole.len()).step_by(97).chain(0..200) {
        find_in(&whole[..n]);
    }
    // Every byte of headers and tables, with the values that are most likely to hurt.
    let hurt = (0..200).chain(FILE_DATA..whole.len());
    for at in hurt.step_by(3) {
        for value in [0, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            find_in(&bytes);
        }
    }
    assert_eq!(find_in(b""), Findings::default());
    assert_eq!(find_in(&[0x7f; 4096]), Findings::default());
}

/// Libraries and programs of this machine, each with how its function is to be found. What is not here is said, and none of
/// it being here too: `cargo xtask setup` brings several.
#[test]
fn what_this_machine_has_is_found() {
    let known = [
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", Layout::C, Way::Label),
        ("/usr/lib/aarch64-linux-gnu/libssl.so.3", Layout::C, Way::Label),
        ("/usr/lib/x86_64-linux-gnu/libgnutls.so.30", Layout::C, Way::Label),
        ("/usr/bin/node", Layout::C, Way::Symbol),
        ("/usr/sbin/nats-server", Layout::Go, Way::GoTable),
    ];
    let mut seen = 0;
    for (path, layout, way) in known {
        let Ok(file) = File::open(path) else {
            eprintln!("not here: {path}");
            continue;
        };
        let findings = find(&file).unwrap();
        assert!(findings.ambiguous.is_empty(), "{path}: {findings:?}");
        assert!(findings.found.iter().any(|f| (f.layout, f.way) == (layout, way)), "{path}: {findings:?}");
        seen += 1;
    }
    for none in ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/bin/sh"] {
        if let Ok(file) = File::open(none) {
            assert_eq!(find(&file).unwrap().found, [], "{none}");
        }
    }
    if seen == 0 {
        eprintln!("NOT TESTED: none of these files is on this machine");
    }
}

/// The symbol and the code agree, where a file has kept both.
#[test]
fn the_way_by_labels_gives_what_the_symbol_says() {
    let path = Path::new("/usr/bin/node");
    let Ok(file) = File::open(path) else {
        eprintln!("NOT TESTED: {} is not here", path.display());
        return;
    };
    let image = Image::open(&file).unwrap();
    let texts = label::texts(&image).unwrap();
    let (mut by_symbol, mut by_label) = (Candidates::default(), Candidates::default());
    symbol::find(&image, &mut by_symbol);
    label::find(&image, &texts, &mut by_label).unwrap();
    let offsets = |c: &Candidates| c.0.iter().map(|(.., offsets)| offsets.clone()).collect::<Vec<_>>();
    assert_eq!(offsets(&by_symbol), offsets(&by_label));
    assert_eq!(offsets(&by_symbol).len(), 1);
}
