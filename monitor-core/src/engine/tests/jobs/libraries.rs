//! The whole core on job libraries that keep what a job says apart from the queue its id goes through.

use super::*;

fn id(n: u32) -> String {
    format!("7f3d9a52-0c41-4be8-9d17-62ab8e5{n:05x}")
}

impl Scene {
    fn redis(&mut self, conn: usize, words: &[&str], reply: &[u8]) {
        self.script.send(conn, 0, command(words));
        self.script.send(conn, 1, reply.to_vec());
    }

    fn all_of(&mut self, conn: usize, commands: &[&[&str]], replies: &[&[u8]]) {
        self.redis(conn, &["MULTI"], b"+OK\r\n");
        for words in commands {
            self.redis(conn, words, b"+QUEUED\r\n");
        }
        let reply = [format!("*{}\r\n", replies.len()).as_bytes(), &replies.concat()].concat();
        self.redis(conn, &["EXEC"], &reply);
    }

    /// RQ: a hash and a list; `puts`: on which connection the id is put into the queue.
    fn enqueues_as_rq(&mut self, tenant: usize, puts: usize) -> String {
        self.n += 1;
        let id = id(self.n);
        let data = format!("{{\"order\":{},\"tenant_id\":\"{}\"}}", 4000 + self.n, TENANTS[tenant]);
        let padded = format!("{data}{}", " ".repeat(128));
        self.redis(self.producers[tenant], &["HSET", &format!("rq:job:{id}"), "data", &padded], b":1\r\n");
        self.redis(puts, &["RPUSH", "rq:queue:default", &id], b":1\r\n");
        id
    }

    fn takes_as_rq(&mut self, id: &str) {
        let (worker, attempt) = (self.worker, format!("{id}:6fd82c14"));
        let moves = ["LMOVE", "rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT"];
        self.redis(worker, &moves, &bulk(id));
        self.all_of(worker, &[&["ZADD", "rq:wip:default", "1796041449", &attempt]], &[b":1\r\n"]);
        self.all_of(worker, &[&["LREM", "rq:queue:default:intermediate", "1", id]], &[b":1\r\n"]);
    }

    fn ends_as_rq(&mut self, id: &str) {
        let attempt = format!("{id}:6fd82c14");
        self.all_of(self.worker, &[&["ZREM", "rq:wip:default", &attempt]], &[b":1\r\n"]);
    }

    /// arq: a text and a sorted set.
    fn enqueues_as_arq(&mut self, tenant: usize) -> (String, String) {
        self.n += 1;
        let id = id(self.n);
        let body = format!("{{\"a\":[{}],\"tenant_id\":\"{}\"}}", 4000 + self.n, TENANTS[tenant]);
        let (key, put): (_, &[&str]) = (format!("arq:job:{id}"), &["ZADD", "jobs.q1", "1796041364525", &id]);
        self.all_of(self.producers[tenant], &[&["PSETEX", &key, "86400000", &body], put], &[b"+OK\r\n", b":1\r\n"]);
        (id, body)
    }

    /// `looks`: where the worker looks for work.
    fn takes_as_arq(&mut self, looks: usize, (id, body): &(String, String)) {
        let range = ["ZRANGEBYSCORE", "jobs.q1", "-inf", "1796041364530", "LIMIT", "0", "1"];
        self.redis(looks, &range, &[&b"*1\r\n"[..], &bulk(id)].concat());
        self.all_of(looks, &[&["PSETEX", &format!("arq:in-progress:{id}"), "310000", "1"]], &[b"+OK\r\n"]);
        let (key, tries) = (format!("arq:job:{id}"), format!("arq:retry:{id}"));
        self.all_of(self.worker, &[&["GET", &key], &["INCRBY", &tries, "1"]], &[&bulk(body), b":1\r\n"]);
    }

    fn ends_as_arq(&mut self, id: &str) {
        let keys = ["in-progress", "retry", "job"].map(|of| format!("arq:{of}:{id}"));
        let deletes: &[&str] = &["DEL", &keys[0], &keys[1], &keys[2]];
        self.all_of(self.worker, &[&["ZREM", "jobs.q1", id], deletes], &[b":1\r\n", b":3\r\n"]);
    }

    fn rq(&mut self, n: usize, bound: impl Fn(usize) -> Option<usize>) {
        for i in 0..n {
            let id = self.enqueues_as_rq(i % 2, self.producers[i % 2]);
            self.takes_as_rq(&id);
            self.work(bound(i % 2));
            self.ends_as_rq(&id);
            self.script.steps.push(Step::Wait { millis: 5 });
        }
        self.script.steps.push(Step::Wait { millis: 3_000 });
    }

    fn arq(&mut self, n: usize, bound: impl Fn(usize) -> Option<usize>) {
        let looks = self.script.connect(WORKER, BROKER, 40_007, 6379);
        for i in 0..n {
            let job = self.enqueues_as_arq(i % 2);
            self.takes_as_arq(looks, &job);
            self.work(bound(i % 2));
            self.ends_as_arq(&job.0);
            self.redis(looks, &["ZCARD", "jobs.q1"], b":0\r\n");
            self.script.steps.push(Step::Wait { millis: 5 });
        }
        self.script.steps.push(Step::Wait { millis: 20_000 });
    }
}

#[test]
fn work_that_nothing_re_validates() {
    let mut rq = Scene::new();
    rq.rq(60, |_| None);
    let mut arq = Scene::new();
    arq.arq(60, |_| None);
    for scene in [rq, arq] {
        let seen = all(&scene.script.steps);
        assert_eq!(worst(&seen, RULE), Some((EvidenceClass::Endpoint, Severity::High)), "{:#?}", seen.operations);
        assert!(!rules(&seen).contains("tenant-label-missing") && !rules(&seen).contains("cache-key-unscoped"));
    }
}

#[test]
fn clean_workers_are_silent() {
    let mut rq = Scene::new();
    rq.rq(60, Some);
    let mut arq = Scene::new();
    arq.arq(60, Some);
    for scene in [rq, arq] {
        let seen = all(&scene.script.steps);
        assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
    }
}

#[test]
fn losing_any_event_makes_no_clean_worker_guilty() {
    let mut rq = Scene::new();
    rq.rq(4, Some);
    let mut arq = Scene::new();
    arq.arq(4, Some);
    for scene in [rq, arq] {
        let steps = scene.script.steps;
        for n in [1, 3] {
            for lost in (0..steps.len()).step_by(if n == 1 { 1 } else { 4 }) {
                let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
                let found = seen.findings.iter().find(|f| f.rule != "tenant-label-missing");
                assert!(found.is_none(), "losing events {lost}..{}: {found:#?}", lost + n);
            }
        }
    }
}

/// A scheduler, or a worker that tries again, puts an id into the queue that somebody else's job has.
#[test]
fn a_job_is_whose_who_wrote_it() {
    for bound in [None, Some(())] {
        let mut scene = Scene::new();
        let schedules = scene.script.connect(WORKER, BROKER, 40_008, 6379);
        for i in 0..60 {
            let id = scene.enqueues_as_rq(i % 2, schedules);
            scene.takes_as_rq(&id);
            scene.work(bound.map(|()| i % 2));
            scene.ends_as_rq(&id);
            scene.script.steps.push(Step::Wait { millis: 5 });
        }
        scene.script.steps.push(Step::Wait { millis: 3_000 });
        let seen = all(&scene.script.steps);
        let expected = bound.is_none().then_some((EvidenceClass::Endpoint, Severity::High));
        assert_eq!(worst(&seen, RULE), expected, "{:#?}", seen.operations);
    }
}

/// The same id, written by one after the other: the job is the latter's.
#[test]
fn a_job_that_another_writes_anew_is_that_ones() {
    let mut scene = Scene::new();
    for i in 0..60 {
        let (id, data) = ("daily-report-1", format!("{{\"order\":1}}{}", " ".repeat(128)));
        scene.redis(scene.producers[i % 2], &["HSET", &format!("rq:job:{id}"), "data", &data], b":0\r\n");
        scene.redis(scene.producers[i % 2], &["RPUSH", "rq:queue:default", id], b":1\r\n");
        scene.takes_as_rq(id);
        scene.work(Some(i % 2));
        scene.ends_as_rq(id);
        scene.script.steps.push(Step::Wait { millis: 5 });
    }
    scene.script.steps.push(Step::Wait { millis: 3_000 });
    let seen = all(&scene.script.steps);
    assert_eq!(worst(&seen, RULE), None, "{:#?}", seen.findings);
}
