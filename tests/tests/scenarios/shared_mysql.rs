//! A shared service before MariaDB: pools of three libraries, and an agent that comes later than their connections.

crate::shared::shared! {
    unbound: "mysql-unbound" [with_1 = 1, with_16 = 16];
    session_set_left_behind: "mysql-session-set" [with_1 = 1, with_16 = 16];
    reset_is_no_binding: "mysql-reset" [with_1 = 1, with_16 = 16];
    per_checkout: "mysql-per-checkout" [with_1 = 1, with_16 = 16];
    predicate: "mysql-predicate" [with_16 = 16];
    user_per_checkout: "mysql-change-user" [with_1 = 1, with_16 = 16];
    asyncmy_session_set: "asyncmy-session-set" [with_16 = 16];
    asyncmy_per_checkout: "asyncmy-per-checkout" [with_16 = 16];
}

mod late {
    crate::shared::shared! { late:
        session_set_left_behind: "mysql-session-set" [with_1 = 1];
        per_checkout: "mysql-per-checkout" [with_16 = 16];
    }
}
