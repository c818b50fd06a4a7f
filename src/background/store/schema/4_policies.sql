-- Who may subscribe and publish.
CREATE TABLE policies (
    -- 'subscribe' or 'publish'.
    action           TEXT NOT NULL,
    name             TEXT NOT NULL,
    command          TEXT NOT NULL,
    -- A JSON array of strings.
    roles            TEXT NOT NULL,
    using_expression TEXT,
    check_expression TEXT,
    PRIMARY KEY (action, name)
);
