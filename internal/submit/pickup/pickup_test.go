package pickup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// intake keeps what it takes, and takes an ID once.
type intake struct {
	mu    sync.Mutex
	taken map[mta.ID]*draft
	said  error  // of Check
	says  error  // of Begin
	tells error  // of Commit
	while func() // called by Begin
	began chan struct{}
}

func newIntake() *intake {
	return &intake{taken: map[mta.ID]*draft{}, began: make(chan struct{}, 100_000)}
}

func (in *intake) Check(context.Context, *submit.Request) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.said
}

func (in *intake) Begin(_ context.Context, r *submit.Request) (submit.Draft, error) {
	defer func() { in.began <- struct{}{} }()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.while != nil {
		in.while()
	}
	if in.taken[r.ID] != nil {
		return nil, submit.ErrTaken
	}
	if in.says != nil {
		return nil, in.says
	}
	return &draft{in: in, r: r}, nil
}

type draft struct {
	bytes.Buffer
	in *intake
	r  *submit.Request
}

func (d *draft) Commit(context.Context) (mta.ID, error) {
	d.in.mu.Lock()
	defer d.in.mu.Unlock()
	if d.in.tells != nil {
		return mta.ID{}, d.in.tells
	}
	d.in.taken[d.r.ID] = d
	return d.r.ID, nil
}

func (d *draft) Abort() {}

// all gives what was taken, by time: "sender → recipients: content".
func (in *intake) all() (out []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range in.taken {
		var to []string
		for _, r := range d.r.Recipients {
			to = append(to, r.Address)
		}
		out = append(out, d.r.Envelope.Sender+" → "+strings.Join(to, " ")+": "+d.String())
	}
	slices.Sort(out)
	return out
}

// bench is a directory with a taker whose clock the test moves.
type bench struct {
	*testing.T
	dir   string
	in    *intake
	taker *Taker
	now   time.Time
}

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b := &bench{T: t, dir: filepath.Join(t.TempDir(), "pickup"), in: newIntake(), now: time.Now()}
	b.again(change)
	return b
}

// again makes a taker anew, as a restart does.
func (b *bench) again(change func(*Options)) {
	b.Helper()
	o := Options{Directory: b.dir, Bad: "bad", Intake: b.in, Now: func() time.Time { return b.now }}
	if change != nil {
		change(&o)
	}
	b.taker = NewTaker(o)
	if err := b.taker.Prepare(); err != nil {
		b.Fatal(err)
	}
	b.taker.base, b.taker.abandon = context.WithCancel(context.Background())
	started := b.taker
	b.Cleanup(func() { started.watch(nil) })
}

// passes looks at the directory now and when files have been quiet.
func (b *bench) passes() (short bool) {
	b.Helper()
	b.taker.pass()
	b.now = b.now.Add(defaultQuiet)
	_, short = b.taker.pass()
	return short
}

func (b *bench) write(name, content string) string {
	b.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func (b *bench) read(name string) string {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.Error(err)
	}
	return string(data)
}

// names lists a room, "." being the directory without its rooms.
func (b *bench) names(room string) string {
	b.Helper()
	list, err := os.ReadDir(filepath.Join(b.dir, room))
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if room != "." || !slices.Contains([]string{"bad", "done", takenRoom}, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

func (b *bench) expect(want ...string) {
	b.Helper()
	if got := b.in.all(); !slices.Equal(got, want) {
		b.Errorf("taken %q, not %q", got, want)
	}
}

const plain = "From: A <a@from.example>\nTo: b@to.example\nBcc: c@to.example\n\ntext\n"

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.write("header.eml", plain)
	b.write("lines.EML", "\xef\xbb\xbfX-Sender: <bounce@from.example> BODY=8BITMIME RET=HDRS ENVID=x+20y\r\nX-Receiver: <d@to.example> NOTIFY=NEVER\r\nX-RECEIVER: e@to.example\r\nX-Sender-Note: kept\r\nFrom: a@from.example\r\nTo: shown@to.example\r\n\r\ntext\r\n")
	b.write("null.eml", "X-Sender: <>\nX-Receiver: f@to.example\n\nbody\n")
	b.write("beside.eml", plain)
	b.write("beside.json", `{"from":"J <j@from.example>","to":["g@to.example, h@to.example"],"stream":"s","tags":["t"],"metadata":{"k":"v","n":1.50,"b":true,"z":null},"send_at":"2030-01-01T00:00:00Z","expire":"3d","notify":["success","failure"],"ret":"full","envid":"e"}`)
	b.write("facts.eml", plain)
	b.write("facts.json", `{"tags":["only"],"expire":"2h"}`)
	b.write("mbox.eml", "From a@from.example Mon Jan  1 00:00:00 2029\nX-Sender: m@from.example\nX-Receiver: m@to.example\nSubject: x\n\n")
	b.write("utf8.eml", "X-Sender: ä@from.example\nX-Receiver: ö@bücher.example\n\n")
	if b.passes() {
		t.Error("short")
	}
	b.expect(" → f@to.example: \nbody\n",
		"a@from.example → b@to.example c@to.example: "+plain,
		"a@from.example → b@to.example c@to.example: "+plain,
		"bounce@from.example → d@to.example e@to.example: X-Sender-Note: kept\r\nFrom: a@from.example\r\nTo: shown@to.example\r\n\r\ntext\r\n",
		"j@from.example → g@to.example h@to.example: "+plain,
		"m@from.example → m@to.example: Subject: x\n\n",
		"ä@from.example → ö@xn--bcher-kva.example: \n")
	for _, d := range b.in.taken {
		e := d.r.Envelope
		if len(d.r.Tags) > 0 && d.r.Tags[0] == "only" && d.r.Expires.Sub(d.r.ID.Time()) != 2*time.Hour {
			t.Errorf("%+v", d.r)
		}
		switch e.Sender {
		case "bounce@from.example":
			if e.Ret != mta.RetHeaders || e.EnvID != "x+20y" && e.EnvID != "x y" || !e.Body8Bit || d.r.Recipients[0].Notify != mta.NotifyNever || d.r.Recipients[1].Notify != 0 {
				t.Errorf("%+v", d.r)
			}
		case "j@from.example":
			if d.r.Stream != "s" || d.r.Tags[0] != "t" || fmt.Sprint(d.r.Metadata) != "map[b:true k:v n:1.50]" || d.r.NotBefore.Year() != 2030 || d.r.Expires.Sub(d.r.NotBefore) != 72*time.Hour || e.Ret != mta.RetFull || e.EnvID != "e" ||
				d.r.Recipients[1].Notify != mta.NotifySuccess|mta.NotifyFailure {
				t.Errorf("%+v", d.r)
			}
		}
	}
	if left := b.names(".") + b.names(takenRoom) + b.names("bad"); left != "" {
		t.Errorf("left: %s", left)
	}
}

func TestBadFilesAreMovedAsideWithTheReason(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	cases := map[string][2]string{ // name: content, reason
		"empty":      {"", "no sender"},
		"norcpt":     {"From: a@from.example\n\n", "no recipients"},
		"nosender":   {"To: b@to.example\n\n", "neither Sender nor From"},
		"badto":      {"From: a@from.example\nTo: <b@to.example\n\n", "the field To"},
		"local":      {"From: a@from.example\nTo: root\n\n", `"root"`},
		"late":       {"From: a@from.example\nX-Receiver: b@to.example\nTo: c@to.example\n\n", "behind other fields"},
		"later":      {"X-Receiver: d@to.example\nFrom: a@from.example\nX-Receiver: b@to.example\n\n", "behind other fields"},
		"twosenders": {"X-Sender: a@from.example\nX-Sender: a@from.example\nX-Receiver: b@to.example\n\n", "two X-Sender"},
		"badline":    {"X-Sender: a@from.example\nX-Receiver: b@to.example FOO=1\n\n", "X-Receiver"},
		"badsender":  {"X-Sender: root\nX-Receiver: b@to.example\n\n", "X-Sender"},
		"utf16":      {"\xff\xfeF\x00r\x00", "UTF-16"},
		"longheader": {"From: a@from.example\nTo: b@to.example\nX: " + strings.Repeat("x\n x", 400_000) + "\n\n", "too large"},
		"two":        {"X-Sender: a@from.example\n" + plain, "two envelopes"},
		"json":       {plain, "envelope"},
		"unknown":    {plain, `there is no field "form"; it may have from, to, `},
		"many":       {plain, "one JSON object"},
		"null":       {plain, "one JSON object"},
		"emptyto":    {plain, `"to" of its envelope is empty`},
		"jsonto":     {plain, `the recipient "x"`},
		"jsonnotify": {plain, "notify"},
		"jsonret":    {plain, "ret"},
		"jsonlist":   {plain, "envelope: to: an address or a list of addresses is expected"},
		"jsonmeta":   {plain, "metadata: an object of texts, numbers, true and false is expected"},
		"jsontime":   {plain, "send_at: a time such as"},
		"array":      {plain, "one JSON object"},
		"expire":     {plain, "expire"},
	}
	for name, c := range cases {
		b.write(name+".eml", c[0])
	}
	for name, content := range map[string]string{
		"two": "{}", "json": "{", "unknown": `{"form":"x"}`, "many": "{}{}", "null": "null", "emptyto": `{"to":[]}`, "jsonto": `{"to":"x"}`,
		"jsonnotify": `{"notify":["never","delay"]}`, "jsonret": `{"ret":"some"}`, "jsonlist": `{"to":7}`, "jsonmeta": `{"metadata":{"a":[1]}}`, "jsontime": `{"send_at":"soon"}`, "array": `[]`, "expire": `{"expire":"soon"}`,
	} {
		b.write(name+".json", content)
	}
	b.passes()
	b.expect()
	for name, c := range cases {
		if reason := b.read("bad/" + name + ".reason"); !strings.Contains(reason, c[1]) || !strings.Contains(reason, `"`+name+`.eml"`) {
			t.Errorf("%s: %s", name, reason)
		}
		if b.read("bad/"+name+".eml") != c[0] {
			t.Errorf("%s is changed", name)
		}
	}
	if left := b.names(".") + b.names(takenRoom); left != "" {
		t.Errorf("left: %s", left)
	}
	// A name that is taken there keeps what it has.
	b.write("empty.eml", "again")
	b.passes()
	if b.read("bad/empty.eml") != "" || len(strings.Fields(b.names("bad"))) != 2*len(cases)+14+2 {
		t.Errorf("bad: %s", b.names("bad"))
	}
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	secret := filepath.Join(t.TempDir(), "secret.eml")
	if err := os.WriteFile(secret, []byte(plain), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(b.dir, name) }
	if err := errors.Join(os.Symlink(secret, at("link.eml")), os.Link(secret, at("hard.eml")), os.Mkdir(at("dir.eml"), 0o700), mkfifo(at("fifo.eml")),
		os.Symlink(secret, at("envelope.json")), os.Symlink("nowhere", at("dangling.eml"))); err != nil {
		t.Fatal(err)
	}
	b.write("envelope.eml", plain)
	odd := []string{"a b.eml", "-rf.eml", "new\nline.eml", "\x1b[2J.eml", "\xff.eml", "~.eml", "..eml.eml", strings.Repeat("n", 251) + ".eml", "01ARZ3NDEKTSV4RRFFQ69G5FAV-x.eml"}
	for _, name := range odd {
		b.write(name, plain)
	}
	other := []string{".hidden.eml", "a.tmp", "b.json", "c.eml.part", "eml"}
	for _, name := range other {
		b.write(name, plain)
	}
	b.passes()
	if n := len(b.in.taken); n != len(odd)-1 { // "..eml.eml" is hidden
		t.Errorf("%d taken: %q", n, b.in.all())
	}
	for _, name := range []string{"link", "dir", "fifo", "envelope", "dangling"} {
		if reason := b.read("bad/" + name + ".reason"); !strings.Contains(reason, "no regular file") {
			t.Errorf("%s: %s", name, reason)
		}
	}
	// A second name is looked at again for a minute.
	if _, err := os.Lstat(at("hard.eml")); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(linkedFor - 2*defaultQuiet)
	b.passes()
	if reason := b.read("bad/hard.reason"); !strings.Contains(reason, "other names") {
		t.Error(reason)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != plain {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range append(other, "..eml.eml") {
		if _, err := os.Lstat(at(name)); err != nil {
			t.Error(err)
		}
	}
}

// Whatever stands in a file is a request whose addresses were parsed, or
// ErrForm.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(plain), []byte(nil))
	f.Add([]byte("X-Sender: <a@from.example> RET=FULL\nX-Receiver: b@to.example\n\nx"), []byte(nil))
	f.Add([]byte("\xef\xbb\xbfFrom x\nResent-From: a@from.example\nResent-To: b@to.example\n"), []byte(`{"from":"","to":["b@to.example"],"notify":["delay"]}`))
	f.Fuzz(func(t *testing.T, in, beside []byte) {
		var e *envelope
		if beside != nil {
			var err error
			if e, err = readEnvelope(bytes.NewReader(beside)); err != nil {
				if !errors.Is(err, ErrForm) {
					t.Fatal(err)
				}
				return
			}
		}
		r, content, err := readMessage(mta.ID{15: 1}, bytes.NewReader(in), int64(len(in)), e)
		if err != nil {
			if !errors.Is(err, ErrForm) {
				t.Fatal(err)
			}
			return
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(content); err != nil || !bytes.HasSuffix(in, b.Bytes()) || len(r.Recipients) == 0 {
			t.Fatalf("%v: %q of %q", err, b.Bytes(), in)
		}
		for _, rcpt := range r.Recipients {
			if rcpt.Address == "" || strings.ContainsAny(rcpt.Address, "\r\n\x00") {
				t.Fatalf("recipient %q", rcpt.Address)
			}
		}
	})
}

// TestDocs: the examples of docs/pickup.md are what is said of them.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/pickup.md")
	if err != nil {
		t.Fatal(err)
	}
	example := func(begin string) string {
		_, rest, found := strings.Cut(string(page), begin)
		text, _, ends := strings.Cut(rest, "```\n")
		if !found || !ends {
			t.Fatalf("%q is not there", begin)
		}
		return text
	}
	b := newBench(t, nil)
	b.write("a.eml", "X-Sender"+example("```\nX-Sender"))
	b.write("b.eml", plain)
	b.write("b.json", example("```json\n"))
	b.passes()
	if len(b.in.taken) != 2 {
		t.Errorf("taken %q, bad %q", b.in.all(), b.names("bad"))
	}
	for _, d := range b.in.taken {
		if d.r.Envelope.Sender != "bounces@example.com" || len(d.r.Recipients) != 2 || d.r.Recipients[1].Address != "archive@example.com" {
			t.Errorf("%+v", d.r)
		}
	}
	for _, field := range []string{"from", "to", "stream", "send_at", "expire", "tags", "metadata", "notify", "ret", "envid"} {
		if !strings.Contains(string(page), "`"+field+"`") {
			t.Errorf("%s is not on the page", field)
		}
	}
}
