//! What the dashboards are made of: panels, their queries, variables, and where things stand on the page.

use serde_json::{Map, Value, json};

/// Of which Grafana the JSON is: dashboards of this version open in any later one.
const SCHEMA_VERSION: u32 = 41;
/// Columns of Grafana's page.
const COLUMNS: u32 = 24;
/// The data source that a dashboard's first variable names.
const SOURCE: &str = "${datasource}";

/// How a panel is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// One figure.
    Stat,
    /// Lines over time.
    Lines,
    /// Areas that add up.
    Stack,
    /// Areas as shares of the whole.
    Share,
    /// One bar per series, the present value.
    Gauge,
    /// A table of the present values.
    Table,
}

/// One query of a panel.
pub(crate) struct Query {
    expr: String,
    legend: String,
}

/// One panel.
pub(crate) struct Panel {
    title: &'static str,
    draw: Draw,
    unit: &'static str,
    description: &'static str,
    empty: &'static str,
    size: (u32, u32),
    queries: Vec<Query>,
    /// Steps of colour: from which value on, which colour. The first one's value is not looked at.
    steps: Vec<(f64, &'static str)>,
    /// Colours of series by name.
    colours: &'static [(&'static str, &'static str)],
    /// Columns of a table, in order: field, heading. What is not named is not shown.
    columns: Vec<(&'static str, &'static str)>,
    /// Texts instead of values: value, text, colour.
    words: &'static [(&'static str, &'static str, &'static str)],
    /// Between which values the axis runs.
    range: Option<(f64, f64)>,
    /// Units of a table's columns, by heading, where they are not the panel's.
    units: Vec<(&'static str, &'static str)>,
    /// A field and where its values lead.
    links: Vec<(&'static str, &'static str, String)>,
    /// What else to look at: name, address.
    beside: Vec<(&'static str, &'static str)>,
}

impl Panel {
    /// A panel, so many columns wide and so many rows high. `empty` says what it means that nothing is shown.
    pub(crate) fn new(
        draw: Draw,
        title: &'static str,
        unit: &'static str,
        size: (u32, u32),
        description: &'static str,
        empty: &'static str,
    ) -> Self {
        Self {
            title,
            draw,
            unit,
            description,
            empty,
            size,
            queries: Vec::new(),
            steps: vec![(0.0, "blue")],
            colours: &[],
            columns: Vec::new(),
            words: &[],
            range: None,
            units: Vec::new(),
            links: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// Adds a query; its series are named by `legend`, where `{{label}}` stands for a label's value.
    pub(crate) fn query(mut self, expr: impl Into<String>, legend: &str) -> Self {
        self.queries.push(Query { expr: expr.into(), legend: legend.to_owned() });
        self
    }

    pub(crate) fn steps(mut self, steps: &[(f64, &'static str)]) -> Self {
        self.steps = steps.to_vec();
        self
    }

    pub(crate) fn colours(mut self, colours: &'static [(&'static str, &'static str)]) -> Self {
        self.colours = colours;
        self
    }

    pub(crate) fn columns(mut self, columns: &[(&'static str, &'static str)]) -> Self {
        self.columns = columns.to_vec();
        self
    }

    pub(crate) fn words(mut self, words: &'static [(&'static str, &'static str, &'static str)]) -> Self {
        self.words = words;
        self
    }

    pub(crate) fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }

    /// The unit of a column.
    pub(crate) fn unit_of(mut self, heading: &'static str, unit: &'static str) -> Self {
        self.units.push((heading, unit));
        self
    }

    /// Something else to look at, from the panel's corner.
    pub(crate) fn beside(mut self, pages: &[(&'static str, &'static str)]) -> Self {
        self.beside.extend(pages);
        self
    }

    /// The values of a column lead to another dashboard, which opens with this value as its `variable`.
    pub(crate) fn leads_to(mut self, heading: &'static str, uid: &str, variable: &str) -> Self {
        let url = format!("/d/{uid}?${{__url_time_range}}&var-{variable}=${{__value.text:percentencode}}");
        self.links.push((heading, "Open", url));
        self
    }

    /// The values of a column lead to a page, which is found by this address and the value behind it.
    pub(crate) fn opens(mut self, heading: &'static str, title: &'static str, page: &str) -> Self {
        self.links.push((heading, title, format!("{page}${{__value.text:percentencode}}")));
        self
    }

    fn kind(&self) -> &'static str {
        match self.draw {
            Draw::Stat => "stat",
            Draw::Gauge => "bargauge",
            Draw::Table => "table",
            Draw::Lines | Draw::Stack | Draw::Share => "timeseries",
        }
    }

    fn is_present_value(&self) -> bool {
        matches!(self.draw, Draw::Table | Draw::Gauge | Draw::Stat)
    }

    fn targets(&self) -> Vec<Value> {
        let letters = ('A'..='Z').map(String::from);
        self.queries
            .iter()
            .zip(letters)
            .map(|(query, letter)| {
                let mut target = json!({
                    "datasource": { "type": "prometheus", "uid": SOURCE },
                    "refId": letter,
                    "expr": query.expr,
                    "legendFormat": query.legend,
                    "editorMode": "code",
                    "instant": self.is_present_value(),
                    "range": !self.is_present_value(),
                });
                if self.draw == Draw::Table
                    && let Some(target) = target.as_object_mut()
                {
                    target.insert("format".to_owned(), json!("table"));
                }
                target
            })
            .collect()
    }

    fn options(&self) -> Value {
        let last = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        match self.draw {
            Draw::Stat => json!({
                "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                "percentChangeColorMode": "standard", "reduceOptions": last, "showPercentChange": false,
                "textMode": "value", "wideLayout": true,
            }),
            Draw::Gauge => json!({
                "displayMode": "basic", "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
                "maxVizHeight": 28, "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "auto",
                "orientation": "horizontal", "reduceOptions": last, "showUnfilled": true, "sizing": "auto",
                "valueMode": "color",
            }),
            Draw::Table => json!({
                "cellHeight": "sm", "frameIndex": 0, "showHeader": true,
                "sortBy": self.columns.last().map(|(_, heading)| vec![json!({ "displayName": heading, "desc": true })]).unwrap_or_default(),
            }),
            Draw::Lines | Draw::Stack | Draw::Share => json!({
                "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "hideZeros": false, "mode": "multi", "sort": "desc" },
            }),
        }
    }

    fn custom(&self) -> Value {
        let (fill, width, stacking) = match self.draw {
            Draw::Lines => (8, 2, "none"),
            Draw::Stack => (35, 1, "normal"),
            Draw::Share => (60, 1, "percent"),
            // Names are long: what does not fit goes on in a second line, and nothing is cut.
            Draw::Table => {
                return json!({
                    "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false, "minWidth": 90, "wrapText": true,
                });
            }
            Draw::Stat | Draw::Gauge => return json!({}),
        };
        json!({
            "axisBorderShow": false, "axisCenteredZero": false, "axisColorMode": "text", "axisLabel": "",
            "axisPlacement": "auto", "barAlignment": 0, "barWidthFactor": 0.8, "drawStyle": "line", "fillOpacity": fill,
            "gradientMode": "none", "hideFrom": { "legend": false, "tooltip": false, "viz": false },
            "insertNulls": false, "lineInterpolation": "linear", "lineWidth": width, "pointSize": 4,
            "scaleDistribution": { "type": "linear" }, "showPoints": "never", "spanNulls": false,
            "stacking": { "group": "A", "mode": stacking }, "thresholdsStyle": { "mode": "off" },
        })
    }

    fn overrides(&self) -> Vec<Value> {
        let named = |name: &str| json!({ "id": "byName", "options": name });
        let colours = self.colours.iter().map(|(name, colour)| {
            json!({
                "matcher": named(name),
                "properties": [{ "id": "color", "value": { "mode": "fixed", "fixedColor": colour } }],
            })
        });
        let links = self.links.iter().map(|(field, title, url)| {
            json!({
                "matcher": named(field),
                "properties": [{ "id": "links", "value": [{ "title": title, "url": url }] }],
            })
        });
        // In a table the unit is of the figures, not of the labels.
        let figures = self.columns.iter().filter(|(field, _)| field.starts_with("Value")).map(|(_, heading)| {
            let own = self.units.iter().find(|(of, _)| of == heading).map(|(_, unit)| *unit);
            let (width, none) = if own.is_some() { (165, "-") } else { (100, "0") };
            let mut properties = vec![
                json!({ "id": "unit", "value": own.unwrap_or(self.unit) }),
                json!({ "id": "custom.width", "value": width }),
                json!({ "id": "noValue", "value": none }),
            ];
            if self.steps.len() > 1 && own.is_none() {
                properties.push(json!({ "id": "custom.cellOptions", "value": { "type": "color-text" } }));
            }
            json!({ "matcher": named(heading), "properties": properties })
        });
        // Words have colours of their own; the field must be told to use them.
        let worded =
            self.columns.iter().filter(|(field, _)| !self.words.is_empty() && matches!(*field, "severity" | "verdict"));
        let worded = worded.map(|(_, heading)| {
            json!({
                "matcher": named(heading),
                "properties": [
                    { "id": "custom.cellOptions", "value": { "type": "color-text" } },
                    { "id": "custom.width", "value": 110 },
                ],
            })
        });
        colours.chain(links).chain(worded).chain(figures).collect()
    }

    fn defaults(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .enumerate()
            .map(|(i, (from, colour))| json!({ "color": colour, "value": if i == 0 { Value::Null } else { json!(from) } }))
            .collect();
        let by_steps = matches!(self.draw, Draw::Stat | Draw::Gauge | Draw::Table);
        let mappings: Vec<Value> = self
            .words
            .iter()
            .enumerate()
            .map(|(index, (value, text, colour))| {
                json!({ "type": "value", "options": { (*value): { "text": text, "color": colour, "index": index } } })
            })
            .collect();
        let mut defaults = json!({
            "color": { "mode": if by_steps { "thresholds" } else { "palette-classic" } },
            "custom": self.custom(),
            "mappings": mappings,
            "noValue": self.empty,
            "thresholds": { "mode": "absolute", "steps": steps },
            "unit": if self.draw == Draw::Table { "none" } else { self.unit },
        });
        let Some(map) = defaults.as_object_mut() else { return defaults };
        // Bars and axes that do not begin at nought mislead.
        if !by_steps || self.draw == Draw::Gauge {
            map.insert("min".to_owned(), json!(0));
        }
        if let Some((low, high)) = self.range {
            map.insert("min".to_owned(), json!(low));
            map.insert("max".to_owned(), json!(high));
        }
        defaults
    }

    /// Tables are joined by their labels, and show only the columns that have a heading.
    fn transformations(&self) -> Vec<Value> {
        if self.draw != Draw::Table {
            return Vec::new();
        }
        let place: Map<String, Value> =
            self.columns.iter().enumerate().map(|(i, (field, _))| ((*field).to_owned(), json!(i))).collect();
        let names: Map<String, Value> =
            self.columns.iter().map(|(field, heading)| ((*field).to_owned(), json!(heading))).collect();
        let shown: Vec<&str> = self.columns.iter().map(|(field, _)| *field).collect();
        let mut steps = Vec::new();
        if self.queries.len() > 1 {
            steps.push(json!({ "id": "merge", "options": {} }));
        }
        steps.push(json!({ "id": "filterFieldsByName", "options": { "include": { "names": shown } } }));
        steps.push(json!({ "id": "organize", "options": { "indexByName": place, "renameByName": names } }));
        steps
    }

    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let mut panel = json!({
            "id": id,
            "type": self.kind(),
            "title": self.title,
            "description": format!("{}\n\nEmpty: {}.", self.description, self.empty),
            "datasource": { "type": "prometheus", "uid": SOURCE },
            "gridPos": { "h": self.size.1, "w": self.size.0, "x": x, "y": y },
            "fieldConfig": { "defaults": self.defaults(), "overrides": self.overrides() },
            "options": self.options(),
            "targets": self.targets(),
        });
        let steps = self.transformations();
        let links: Vec<Value> =
            self.beside.iter().map(|(title, url)| json!({
                    "title": title, "url": url, "targetBlank": true, "type": "link", "icon": "external link", "tooltip": "",
                    "tags": [], "asDropdown": false, "includeVars": false, "keepTime": false,
                })).collect();
        for (key, list) in [("transformations", steps), ("links", links)] {
            if let (false, Some(map)) = (list.is_empty(), panel.as_object_mut()) {
                map.insert(key.to_owned(), json!(list));
            }
        }
        panel
    }
}

/// A variable of a dashboard: the values of a label.
pub(crate) struct Variable {
    /// Its name, and the label's.
    pub(crate) name: &'static str,
    /// Which series to ask for it.
    pub(crate) of: String,
    /// One value at a time: the dashboard is about it.
    pub(crate) single: bool,
}

impl Variable {
    fn json(&self) -> Value {
        let query = format!("label_values({}, {})", self.of, self.name);
        let mut variable = json!({
            "name": self.name,
            "label": self.name,
            "type": "query",
            "datasource": { "type": "prometheus", "uid": SOURCE },
            "query": { "query": query, "refId": "variable", "qryType": 1 },
            "refresh": 2,
            "sort": 1,
            "hide": 0,
            "includeAll": !self.single,
            "multi": !self.single,
            "options": [],
        });
        if !self.single
            && let Some(map) = variable.as_object_mut()
        {
            // Also what has no such label: a single Prometheus needs no `cluster`.
            map.insert("allValue".to_owned(), json!(".*"));
            map.insert("current".to_owned(), json!({ "text": ["All"], "value": ["$__all"] }));
        }
        variable
    }
}

/// A dashboard: rows of panels under a heading each.
pub(crate) struct Dashboard {
    /// File name without its end; with a prefix its permanent id.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) variables: Vec<Variable>,
    pub(crate) rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// The JSON as Grafana provisions it, with a final newline.
    pub(crate) fn text(&self) -> String {
        let source = json!({
            "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1,
            "hide": 0, "includeAll": false, "multi": false, "options": [], "regex": "",
        });
        // Where the agents' log is, for links; whoever has no Loki sees an empty list.
        let log = json!({
            "name": "log", "label": "Log", "type": "datasource", "query": "loki", "refresh": 1,
            "hide": 0, "includeAll": false, "multi": false, "options": [], "regex": "",
        });
        let mut panels = self.rows.iter().flat_map(|(_, panels)| panels);
        let linked = panels.any(|p| p.beside.iter().any(|(_, url)| url.contains("${log}")));
        let variables: Vec<Value> = std::iter::once(source)
            .chain(linked.then_some(log))
            .chain(self.variables.iter().map(Variable::json))
            .collect();
        let value = json!({
            "uid": format!("leasewarden-{}", self.name),
            "title": format!("leasewarden / {}", self.title),
            "description": self.description,
            "tags": ["leasewarden"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "liveNow": false,
            "refresh": "30s",
            "time": { "from": "now-1h", "to": "now" },
            "timepicker": {},
            "timezone": "browser",
            "weekStart": "",
            "annotations": { "list": [] },
            "links": [{
                "title": "leasewarden", "type": "dashboards", "tags": ["leasewarden"], "asDropdown": false, "icon": "external link",
                "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "", "url": "",
            }],
            "templating": { "list": variables },
            "panels": self.panels(),
        });
        let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Left to right, as long as there is room; a row of panels is as high as its highest.
    fn panels(&self) -> Vec<Value> {
        let mut out = Vec::new();
        let (mut id, mut y) = (0, 0);
        for (heading, panels) in &self.rows {
            id += 1;
            out.push(json!({
                "id": id, "type": "row", "title": heading, "collapsed": false, "panels": [],
                "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y },
            }));
            y += 1;
            let (mut x, mut high) = (0, 0);
            for panel in panels {
                if x + panel.size.0 > COLUMNS {
                    (x, y, high) = (0, y + high, 0);
                }
                id += 1;
                out.push(panel.json(id, x, y));
                x += panel.size.0;
                high = high.max(panel.size.1);
            }
            y += high;
        }
        out
    }
}
