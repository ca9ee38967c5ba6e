package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

const (
	rulesFile     = "../../deploy/prometheus/mailout.rules.yml"
	dashboardFile = "../../deploy/grafana/mailout.json"
)

// sometimes are the metrics without a series in the daemon below.
var sometimes = []string{"mailout_identity_held"}

// TestMetricsOfTheDaemon: everything that docs/metrics.md has is exported by a
// daemon that runs, but for what it says is there sometimes, and nothing else;
// and alert rules and dashboard use nothing that is not exported.
func TestMetricsOfTheDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "fine.example")
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageMail, Action: mtatest.Action{Hang: true}}}}, "slow.example")
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "550 5.1.1 nobody"}}}}, "full.example")
	d := w.daemon("\n" + newWatcher(t).config() + "\n[[source]]\nip = \"127.0.0.1\"\n[[source]]\nip = \"127.0.0.3\"\nwarmup = { start = \"2999-01-01\" }\n[[route]]\ndomains = [\"routed.example\"]\nhost = \"127.0.0.9\"\n[[dkim]]\ndomain = \"sender.example\"\nselector = \"s\"\nkey = \"none.pem\"\n")
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, ca, d.dir, true, "mailout.sender.example")
	d.replace(`trusted = ["127.0.0.0/8"]`, "trusted = [\"127.0.0.0/8\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"")
	d.start()
	for _, to := range []string{"a@fine.example", "b@full.example", "c@slow.example"} {
		d.submit("app@sender.example", []string{to}, "Subject: x\r\n\r\nx\r\n")
	}
	d.waitEvent("a@fine.example", "delivered")
	d.waitEvent("b@full.example", "failed")
	d.socket(http.MethodPost, "/v1/doctor")
	documented, rows := metricRows(t)
	var exported map[string]string
	missing := func() (list []string) {
		exported = exportedTypes(d.socket(http.MethodGet, "/metrics"))
		for name := range documented {
			if exported[name] == "" && !slices.Contains(sometimes, name) {
				list = append(list, name)
			}
		}
		return list
	}
	mtatest.Eventually(t, 30*time.Second, "all documented metrics", func() bool { return len(missing()) == 0 }, func() string { return strings.Join(missing(), " ") })
	for name := range exported {
		if strings.HasPrefix(name, "mailout_") && documented[name] == nil {
			t.Errorf("%s is not in docs/metrics.md", name)
		}
	}
	if len(documented) < 60 {
		t.Errorf("%d metrics", len(documented))
	}
	known := promql{types: exported, labels: documented, rows: rows}
	for _, name := range sometimes {
		exported[name] = "gauge"
	}
	rules := readRules(t)
	for _, r := range rules {
		known.rule(t, r)
		d.commandsExist(r.name, r.notes["action"])
	}
	for _, expr := range dashboardExpressions(t) {
		known.check(t, "dashboard", expr)
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		if out, err := exec.Command(promtool, "check", "rules", rulesFile).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// metricRows reads the tables of docs/metrics.md: the labels of each metric, and
// its row.
func metricRows(t *testing.T) (labels map[string][]string, rows map[string]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels, rows = map[string][]string{}, map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `(mailout_[a-z_]+)` \\| [a-z]+ \\| ([^|]*)\\|.*$")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		labels[m[1]] = append([]string{"instance", "job", "le"}, regexp.MustCompile("[a-z]+").FindAllString(m[2], -1)...)
		rows[m[1]] = m[0]
	}
	return labels, rows
}

// exportedTypes are the types of the metrics that have a series.
func exportedTypes(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" {
			out[f[2]] = f[3]
		}
	}
	return out
}

// rule is an alert.
type rule struct {
	name, expr, severity string
	notes                map[string]string
}

// readRules reads the file of alerts, which keeps to one layout: any other line
// is an error. So no reader of YAML is needed.
func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	quoted := "'((?:[^']|'')+)'"
	layout := []*regexp.Regexp{
		regexp.MustCompile(`^      - alert: (Mailout[A-Za-z]+)$`), regexp.MustCompile("^        expr: " + quoted + "$"),
		regexp.MustCompile(`^        for: ([0-9]+[mhd])$`), regexp.MustCompile("^        (labels:)$"), regexp.MustCompile(`^          severity: (critical|warning|info)$`),
		regexp.MustCompile("^        (annotations:)$"), regexp.MustCompile("^          summary: " + quoted + "$"),
		regexp.MustCompile("^          description: " + quoted + "$"), regexp.MustCompile("^          action: " + quoted + "$"),
	}
	between := regexp.MustCompile(`^(#.*|groups:|  - name: mailout [a-z ]+|    rules:)$`)
	at := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if at == 0 && between.MatchString(line) {
			continue
		}
		m := layout[at].FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s: %q is not as the layout wants it", rulesFile, line)
		}
		value := strings.ReplaceAll(m[1], "''", "'")
		if at == 0 {
			rules = append(rules, rule{name: value, notes: map[string]string{}})
		}
		r := &rules[len(rules)-1]
		switch at {
		case 1:
			r.expr = value
		case 4:
			r.severity = value
		case 6, 7, 8:
			r.notes[[]string{"summary", "description", "action"}[at-6]] = value
		}
		at = (at + 1) % len(layout)
	}
	names := map[string]bool{}
	for _, r := range rules {
		names[r.name] = true
	}
	if at != 0 || len(rules) < 20 || len(names) != len(rules) {
		t.Fatalf("%d alerts, %d names", len(rules), len(names))
	}
	return rules
}

// dashboardExpressions are the queries of the dashboard, whose panels must take
// the data source that its variable names.
func dashboardExpressions(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ Type, UID string }
	var d struct {
		Title, UID string
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Annotations struct{ List []struct{ Expr string } }
		Panels      []struct {
			ID          int
			Type, Title string
			Datasource  *source
			Targets     []struct {
				Expr       string
				Datasource source
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Title == "" || p.Datasource == nil || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d %q: %+v", p.ID, p.Title, p.Datasource)
		}
		for _, target := range p.Targets {
			list = append(list, target.Expr)
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: %+v", p.Title, target.Datasource)
			}
		}
	}
	for _, a := range d.Annotations.List {
		list = append(list, a.Expr)
	}
	if len(ids) != len(d.Panels) || len(list) < 50 || len(d.Templating.List) != 2 || d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Type != "datasource" {
		t.Errorf("%d panels, %d numbers, %d queries, variables %v", len(d.Panels), len(ids), len(list), d.Templating.List)
	}
	return list
}

// promql judges queries by the names in them.
type promql struct {
	types  map[string]string   // of what is exported
	labels map[string][]string // of the documented metrics
	rows   map[string]string   // of the page, which name the labels' values
}

var (
	promTokens   = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|[a-zA-Z_][a-zA-Z0-9_]*|[0-9.]+|=~|!=|!~|[^\s]`)
	promWord     = regexp.MustCompile(`^[a-zA-Z_]`)
	promLanguage = strings.Fields("and or sum max min count by rate increase changes predict_linear histogram_quantile clamp_min time vector")
	promTemplate = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

// check finds what a query names that is not exported, and gives the labels that
// its result has.
func (p promql) check(t *testing.T, where, expr string) (result []string) {
	t.Helper()
	tokens := promTokens.FindAllString(expr, -1)
	var grouped []string
	metrics := 0
	for i := 0; i < len(tokens); i++ {
		word := tokens[i]
		switch {
		case !promWord.MatchString(word):
		case word == "by":
			for i += 2; tokens[i] != ")"; i++ {
				if tokens[i] != "," {
					grouped = append(grouped, tokens[i])
				}
			}
		case slices.Contains(promLanguage, word):
		default:
			metrics++
			labels := p.metric(t, where, word)
			result = append(result, labels...)
			if i+1 < len(tokens) && tokens[i+1] == "{" {
				i = p.matchers(t, where, word, labels, tokens, i+2)
			}
		}
	}
	for _, g := range grouped {
		if !slices.Contains(result, g) {
			t.Errorf("%s: no metric has the label %s: %s", where, g, expr)
		}
	}
	if metrics == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	if grouped != nil {
		return grouped
	}
	return result
}

// metric demands that one is exported, and gives its labels.
func (p promql) metric(t *testing.T, where, name string) []string {
	t.Helper()
	for _, part := range []string{"_bucket", "_count", "_sum"} {
		if base := strings.TrimSuffix(name, part); p.types[base] == "histogram" && base != name {
			return p.labels[base]
		}
	}
	if name != "up" && (p.types[name] == "" || p.types[name] == "histogram") {
		t.Errorf("%s: %s is not exported", where, name)
	}
	if labels := p.labels[name]; labels != nil {
		return labels
	}
	return []string{"instance", "job"}
}

// matchers checks {label="value"} from tokens[i] on, and gives where it ends.
func (p promql) matchers(t *testing.T, where, name string, labels, tokens []string, i int) int {
	t.Helper()
	for ; tokens[i] != "}"; i++ {
		if tokens[i] == "," {
			continue
		}
		label, value := tokens[i], strings.Trim(tokens[i+2], `"`)
		i += 2
		if !slices.Contains(labels, label) {
			t.Errorf("%s: %s has no label %s", where, name, label)
		}
		if label == "job" || label == "instance" {
			continue
		}
		for v := range strings.SplitSeq(value, "|") {
			if !strings.Contains(p.rows[name], "`"+v+"`") {
				t.Errorf("%s: docs/metrics.md does not know the value %q of %s of %s", where, v, label, name)
			}
		}
	}
	return i
}

// rule checks an alert: its query, and that its texts name labels that it has.
func (p promql) rule(t *testing.T, r rule) {
	t.Helper()
	labels := p.check(t, r.name, r.expr)
	for _, part := range slices.Sorted(maps.Keys(r.notes)) {
		for _, m := range promTemplate.FindAllStringSubmatch(r.notes[part], -1) {
			if !slices.Contains(labels, m[1]) {
				t.Errorf("%s: %s names the label %s, which its series do not have", r.name, part, m[1])
			}
		}
	}
}

// commandsExist demands of each `mailout …` in a text that the command is there.
func (d *daemon) commandsExist(where, text string) {
	d.t.Helper()
	for _, m := range regexp.MustCompile("`mailout ([^`]+)`").FindAllStringSubmatch(text, -1) {
		words := strings.Fields(m[1])
		for i, word := range words { // what stands for a value
			if strings.ToUpper(word) == word {
				words[i] = "x"
			}
		}
		if words[0] == "sendmail" { // takes options of its own
			continue
		}
		if _, errs, status := d.run(append(words, "--help")...); status != 0 {
			d.t.Errorf("%s: mailout %s: %s", where, m[1], errs)
		}
	}
}
