package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	toml "github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// DefaultPath is the configuration file when nothing else is said.
const DefaultPath = "/etc/mailout/mailout.toml"

// Variable is the environment variable that names another file.
const Variable = "MAILOUT_CONFIG"

// example is the least that a configuration needs.
const example = `hostname = "mailout.example.com"`

// Path gives the file to use: the one named by --config, else by
// $MAILOUT_CONFIG, else DefaultPath.
func Path(flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv(Variable); env != "" {
		return env
	}
	return DefaultPath
}

// Load reads and checks a file, with the files that it names. The error is
// always of type Errors.
func Load(path string) (*Config, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	l := parse(path, data)
	l.checkFiles()
	return l.result()
}

// Parse checks the text of a file. The name stands in errors, and relative
// paths in the file start at its directory; files named in it are not looked
// at. The error is always of type Errors.
func Parse(name string, data []byte) (*Config, error) {
	return parse(name, data).result()
}

// readConfig reads a file of at most 1 MiB.
func readConfig(path string) ([]byte, error) {
	one := func(message string, cause error) error {
		return Errors{{File: path, Line: 1, Column: 1, Key: "file", Message: message, Err: cause}}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, one("does not exist; run \"mailout setup\", or write it with at least "+example+" (this machine's full name, as other servers see it)", err)
	}
	if err != nil {
		return nil, one("cannot be read: "+reason(err), err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, one("cannot be read: "+reason(err), err)
	}
	if len(data) > maxFile {
		return nil, one("is longer than the 1 MiB of a configuration file", nil)
	}
	return data, nil
}

// reason is an error of the file system without operation and path, which the
// message has already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// loader turns a document into a Config.
type loader struct {
	name string
	doc  *document
	cfg  *Config
	errs Errors
	// places tells where each key stands, by full name, also a refused one.
	places map[string]place
	// sections tells where each table stands, by full name.
	sections map[string]*section
	bad      map[string]bool // keys whose value was refused
}

// place is where one key stands.
type place struct {
	statement int
	keyAt     int
	value     *value
	inline    *value // the inline table that holds it; nil: its own statement
}

// section is one table as it stands in the file.
type section struct {
	table      *table
	index      int
	at         int    // offset of its header, or of its first key
	headed     bool   // it has a [header]; else dotted keys or an inline table
	inline     *value // the inline table that it is
	listed     bool   // inline, as an element of a list
	statements []int  // its header and assignments
	skip       bool   // refused: what stands in it is not looked at
}

func parse(name string, data []byte) *loader {
	l := &loader{
		name:     name,
		doc:      parseDocument(data),
		cfg:      &Config{Path: name, given: map[string]bool{}},
		places:   map[string]place{},
		sections: map[string]*section{},
		bad:      map[string]bool{},
	}
	for _, t := range schema {
		if !t.array {
			l.defaults(t, 0)
		}
	}
	l.read()
	l.finish()
	return l
}

// result gives the configuration, or everything that is wrong.
func (l *loader) result() (*Config, error) {
	if len(l.errs) > 0 {
		l.errs.sort()
		return nil, l.errs
	}
	return l.cfg, nil
}

// defaults fills element i of a table with the fixed defaults.
func (l *loader) defaults(t *table, i int) {
	for _, k := range t.keys {
		if k.def == "" {
			continue
		}
		if bad := k.set(l.cfg, i, literal(k.def)); bad != nil {
			panic("config: the default of " + k.full(i) + " is refused: " + bad[0].text)
		}
	}
}

// literal reads one TOML value; nil when text is anything else.
func literal(text string) *value {
	const prefix = "x = "
	doc := parseDocument([]byte(prefix + text))
	if doc.broken != nil || len(doc.statements) != 1 {
		return nil
	}
	s := doc.statements[0]
	if s.kind != assignment || len(s.path) != 1 || s.end != len(doc.data) {
		return nil
	}
	return s.value
}

// read goes through the statements and ends with the syntax error, if any.
func (l *loader) read() {
	current := &section{table: findTable("")}
	l.sections[""] = current
	for n := range l.doc.statements {
		s := &l.doc.statements[n]
		if s.kind != assignment {
			current = l.open(n, s)
			continue
		}
		l.assign(current, n, s.path, s.value, nil)
	}
	if b := l.doc.broken; b != nil {
		l.fail(b.at, "syntax", b.text)
	}
}

func (l *loader) fail(at int, label, message string) {
	line, column := l.doc.position(at)
	l.errs = append(l.errs, &Error{File: l.name, Line: line, Column: column, Key: label, Message: message})
}

// finish derives what depends on other keys and checks what contradicts.
func (l *loader) finish() {
	l.resolve()
	l.derive(false)
	l.derive(true) // elements of arrays follow the single tables
	if p, ok := l.places["router.host"]; ok {
		l.cfg.Router.Line, _ = l.doc.position(p.keyAt)
	}
	if l.doc.broken != nil {
		return // what seems missing may stand behind the error
	}
	l.missing()
	l.contradictions()
	l.secondOpinion()
}

// derive fills in the defaults that depend on other keys.
func (l *loader) derive(array bool) {
	for _, t := range schema {
		if t.array != array {
			continue
		}
		for i := range t.elements(l.cfg) {
			for _, k := range t.keys {
				if k.derive != nil && !l.cfg.given[k.full(i)] {
					k.derive(l.cfg, i)
				}
			}
		}
	}
}

// secondOpinion asks the library's strict reader about what TOML forbids and
// our own reading let pass, such as a table defined twice in different forms.
func (l *loader) secondOpinion() {
	if len(l.errs) > 0 {
		return
	}
	var all map[string]any
	err := toml.Unmarshal(l.doc.data, &all)
	var decode *toml.DecodeError
	switch {
	case err == nil:
	case errors.As(err, &decode):
		line, column := decode.Position()
		l.errs = append(l.errs, &Error{File: l.name, Line: line, Column: column, Key: "syntax", Message: quotesHint(strings.TrimPrefix(err.Error(), "toml: "))})
	default:
		l.fail(0, "syntax", quotesHint(strings.TrimPrefix(err.Error(), "toml: ")))
	}
}

// resolve makes relative paths start at the file's directory.
func (l *loader) resolve() {
	dir, err := filepath.Abs(filepath.Dir(l.name))
	if err != nil {
		dir = "/" // there is no working directory any more
	}
	paths := []*string{&l.cfg.Spool, &l.cfg.HTTP.Socket, &l.cfg.HTTP.Cert, &l.cfg.HTTP.Key, &l.cfg.DNS.HostsFile, &l.cfg.DNS.Anchors, &l.cfg.TLS.CAFile, &l.cfg.Identity.DNSUpdate.KeySecretFile}
	for i := range l.cfg.DKIM {
		paths = append(paths, &l.cfg.DKIM[i].Key)
	}
	for i := range l.cfg.Listen {
		paths = append(paths, &l.cfg.Listen[i].Cert, &l.cfg.Listen[i].Key)
	}
	for i := range l.cfg.Users {
		paths = append(paths, &l.cfg.Users[i].PasswordFile)
	}
	paths = append(paths, &l.cfg.ACME.CAFile, &l.cfg.Unsubscribe.Cert, &l.cfg.Unsubscribe.Key)
	for i := range l.cfg.Pickups {
		paths = append(paths, &l.cfg.Pickups[i].Directory)
	}
	paths = append(paths, &l.cfg.Events.File)
	for i := range l.cfg.Webhooks {
		paths = append(paths, &l.cfg.Webhooks[i].SecretFile)
	}
	for i := range l.cfg.Sources {
		paths = append(paths, &l.cfg.Sources[i].PasswordFile)
	}
	paths = append(paths, l.cfg.credentialPaths()...)
	paths = append(paths, l.routePaths()...)
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// missing reports required keys that are not there.
func (l *loader) missing() {
	for _, t := range schema {
		for i := range t.elements(l.cfg) {
			for _, k := range t.keys {
				full := k.full(i)
				if _, there := l.places[full]; k.required != "" && !there {
					l.fail(l.sectionAt(t, i), k.label(), "is missing (write "+k.required+")")
					l.bad[full] = true
				}
			}
		}
	}
}

// sectionAt is where a table starts; the top of the file when it is not there.
func (l *loader) sectionAt(t *table, i int) int {
	if s := l.sections[t.full(i)]; s != nil {
		return s.at
	}
	return 0
}

// open starts the section of a header.
func (l *loader) open(n int, s *statement) *section {
	label := "[" + dotted(s.path) + "]"
	if s.kind == arrayHeader {
		label = "[" + label + "]"
	}
	refused := &section{skip: true}
	t := tableAt(s.path)
	switch {
	case t == nil:
		l.fail(s.start, label, unknownTable(s.path))
		return refused
	case t.array != (s.kind == arrayHeader):
		l.fail(s.start, label, wrongHeader(t))
		return refused
	}
	if old := l.sections[t.name]; old != nil {
		line, _ := l.doc.position(old.at)
		l.fail(s.start, label, "stands twice, first on line "+itoa(line)+" (put its keys together)")
		return old
	}
	sec := l.section(t, s.start)
	sec.headed = true
	sec.statements = append(sec.statements, n)
	return sec
}

func wrongHeader(t *table) string {
	if t.array {
		return "there may be several of them (write " + t.label() + ")"
	}
	return "there is only one of it (write " + t.label() + ")"
}

// section begins a table, or the next element of an array.
func (l *loader) section(t *table, at int) *section {
	sec := &section{table: t, at: at}
	if t.array {
		sec.index = t.count(l.cfg)
		t.grow(l.cfg)
		l.defaults(t, sec.index)
		switch t.name {
		case "route":
			l.cfg.Routes[sec.index].Line, _ = l.doc.position(at)
		case "dkim":
			l.cfg.DKIM[sec.index].Line, _ = l.doc.position(at)
		}
	}
	l.sections[t.full(sec.index)] = sec
	return sec
}

// assign takes one key = value of a section.
func (l *loader) assign(sec *section, n int, path []part, v *value, inline *value) {
	if sec.skip {
		return
	}
	k := sec.table.key(path[0].name)
	t := tableAt(path[:1])
	switch {
	case k != nil && len(path) > 1:
		l.fail(path[0].at, k.label(), noKeys(k))
	case k != nil:
		l.set(sec, k, place{statement: n, keyAt: path[0].at, value: v, inline: inline})
	case t != nil && sec.table.name == "":
		l.assignTable(t, n, path, v)
	case findTable(sec.table.name+"."+path[0].name) != nil:
		label := findTable(sec.table.name + "." + path[0].name).label()
		l.fail(path[0].at, label, "has a header of its own (write "+label+" and its keys below)")
	default:
		l.fail(path[0].at, strings.TrimSpace(sec.table.label()+" "+dotted(path)), unknownKey(sec.table, path))
	}
}

// assignTable takes dns.timeout = …, dns = {…} and route = [{…}] at the top
// of the file.
func (l *loader) assignTable(t *table, n int, path []part, v *value) {
	at := path[0].at
	switch {
	case t.array:
		l.assignList(t, n, path, v)
	case len(path) > 1:
		sec := l.sections[t.name]
		if sec == nil {
			sec = l.section(t, at)
		}
		sec.statements = append(sec.statements, n)
		l.assign(sec, n, path[1:], v, nil)
	case v.kind != unstable.InlineTable:
		l.fail(v.at, t.label(), v.shown()+" is not a table (write "+t.label()+" and its keys below)")
	case l.sections[t.name] != nil:
		line, _ := l.doc.position(l.sections[t.name].at)
		l.fail(at, t.label(), "stands twice, first on line "+itoa(line)+" (put its keys together)")
	default:
		sec := l.section(t, at)
		sec.inline = v
		sec.statements = append(sec.statements, n)
		l.assignFields(sec, n, v)
	}
}

// assignList takes route = [{…}, {…}].
func (l *loader) assignList(t *table, n int, path []part, v *value) {
	if len(path) > 1 || v.kind != unstable.Array {
		l.fail(path[0].at, t.label(), "there may be several of them (write "+t.label()+" and its keys below)")
		return
	}
	for _, item := range v.items {
		if item.kind != unstable.InlineTable {
			l.fail(item.at, t.label(), item.shown()+" is not a table (write "+t.label()+" and its keys below)")
			continue
		}
		sec := l.section(t, item.at)
		sec.inline, sec.listed = item, true
		sec.statements = append(sec.statements, n)
		l.assignFields(sec, n, item)
	}
}

func (l *loader) assignFields(sec *section, n int, v *value) {
	for _, f := range v.fields {
		l.assign(sec, n, f.path, f.value, v)
	}
}

// set gives one key its value.
func (l *loader) set(sec *section, k *key, p place) {
	full := k.full(sec.index)
	if old, twice := l.places[full]; twice {
		line, _ := l.doc.position(old.keyAt)
		l.fail(p.keyAt, k.label(), "is set twice, first on line "+itoa(line))
		return
	}
	l.places[full] = p
	if p.inline == nil && (len(sec.statements) == 0 || sec.statements[len(sec.statements)-1] != p.statement) {
		sec.statements = append(sec.statements, p.statement)
	}
	bad := k.set(l.cfg, sec.index, p.value)
	for _, c := range bad {
		l.fail(c.at, k.label(), c.text)
	}
	if bad != nil {
		l.bad[full] = true
		return
	}
	l.cfg.given[full] = true
}

// Socket gives the path of the control socket that a file names. Errors
// elsewhere in the file do not matter: commands that ask the running daemon
// must work when somebody's last edit does not.
func Socket(path string) (string, error) {
	data, err := readConfig(path)
	if err != nil {
		return "", err
	}
	c, err := Parse(path, data)
	if err == nil {
		return c.HTTP.Socket, nil
	}
	var bare struct {
		Spool string
		HTTP  struct{ Socket string }
	}
	if toml.Unmarshal(data, &bare) != nil {
		return "", err
	}
	var minimal strings.Builder
	fmt.Fprintf(&minimal, "hostname = \"mailout.example.com\"\n")
	for _, key := range []struct{ table, name, value string }{{"", "spool", bare.Spool}, {"[http]\n", "socket", bare.HTTP.Socket}} {
		if key.value != "" {
			fmt.Fprintf(&minimal, "%s%s = %s\n", key.table, key.name, quote(key.value))
		}
	}
	c, lesser := Parse(path, []byte(minimal.String()))
	if lesser != nil {
		return "", err
	}
	return c.HTTP.Socket, nil
}
