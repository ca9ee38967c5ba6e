package pickup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/filedoor"
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
	b.write("beside.json", `{"from":"J <j@from.example>","to":["g@to.example, h@to.example"],"stream":"s","tags":["t"],"metadata":{"k":"v"},"send_at":"2030-01-01T00:00:00Z","expire":"3d","notify":["success","failure"],"ret":"full","envid":"e"}`)
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
			if d.r.Stream != "s" || d.r.Tags[0] != "t" || d.r.Metadata["k"] != "v" || d.r.NotBefore.Year() != 2030 || d.r.Expires.Sub(d.r.NotBefore) != 72*time.Hour || e.Ret != mta.RetFull || e.EnvID != "e" ||
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
		"unknown":    {plain, "unknown field"},
		"many":       {plain, "one JSON object"},
		"null":       {plain, "one JSON object"},
		"emptyto":    {plain, `"to" of its envelope is empty`},
		"jsonto":     {plain, `the recipient "x"`},
		"jsonnotify": {plain, "notify"},
		"jsonret":    {plain, "ret"},
		"jsonlist":   {plain, "cannot unmarshal"},
		"expire":     {plain, "expire"},
	}
	for name, c := range cases {
		b.write(name+".eml", c[0])
	}
	for name, content := range map[string]string{
		"two": "{}", "json": "{", "unknown": `{"form":"x"}`, "many": "{}{}", "null": "null", "emptyto": `{"to":[]}`, "jsonto": `{"to":"x"}`,
		"jsonnotify": `{"notify":["never","delay"]}`, "jsonret": `{"ret":"some"}`, "jsonlist": `{"to":7}`, "expire": `{"expire":"soon"}`,
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
	if b.read("bad/empty.eml") != "" || len(strings.Fields(b.names("bad"))) != 2*len(cases)+11+2 {
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

// The rooms are in a directory that others may write to: nothing there leads
// the daemon out of it.
func TestRoomsThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Done = "done" })
	outside := t.TempDir()
	for _, room := range []string{"bad", "done", takenRoom} {
		if err := errors.Join(os.Remove(filepath.Join(b.dir, room)), os.Symlink(outside, filepath.Join(b.dir, room))); err != nil {
			t.Fatal(err)
		}
		b.write("good.eml", plain)
		b.write("evil.eml", "x")
		b.passes()
		if list, err := os.ReadDir(outside); err != nil || len(list) > 0 {
			t.Fatalf("%s: %v, %v", room, list, err)
		}
		if err := b.taker.Prepare(); !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: %v", room, err)
		}
		if err := errors.Join(os.Remove(filepath.Join(b.dir, room)), os.Mkdir(filepath.Join(b.dir, room), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	b.passes()
	if left := b.names("."); left != "" {
		t.Errorf("left: %s", left)
	}
}

// Those who may write into the directory may also remove what the daemon made
// there; it is made again.
func TestRoomsThatAreGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.passes()
	for _, room := range []string{takenRoom, "bad"} {
		if err := os.RemoveAll(filepath.Join(b.dir, room)); err != nil {
			t.Fatal(err)
		}
		b.write("a.eml", plain)
		b.write("b.eml", "x")
		b.passes()
		b.passes()
		if b.names(".")+b.names(takenRoom) != "" {
			t.Errorf("%s: left %q, %q", room, b.names("."), b.names(takenRoom))
		}
	}
	if len(b.in.taken) != 2 || len(strings.Fields(b.names("bad"))) != 2 {
		t.Errorf("taken %q, bad %q", b.in.all(), b.names("bad"))
	}
}

func TestAFileBeingWrittenIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	half := plain[:len(plain)/2]
	path := b.write("a.eml", half)
	look := func(after time.Duration) {
		b.now = b.now.Add(after)
		b.taker.pass()
	}
	look(0)
	look(defaultQuiet - 1)
	b.write("a.eml", plain) // the same time stamp is possible, the size is another
	look(1)
	look(defaultQuiet - 1)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil { // of the same size
		t.Fatal(err)
	}
	look(1)
	look(defaultQuiet - 1)
	if err := errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte(plain), 0o600), os.Chtimes(path, later, later)); err != nil {
		t.Fatal(err)
	}
	b.taker.looks.change("a.eml")
	look(1)
	look(defaultQuiet - 1)
	b.expect()
	b.write("a.json", `{"to":"j@to.exa`)
	look(1)
	look(defaultQuiet - 1)
	b.write("a.json", `{"to":"j@to.example"}`)
	look(1)
	b.expect()
	look(defaultQuiet)
	b.expect("a@from.example → j@to.example: " + plain)
}

func TestARenamedFileIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.taker.pass()
	if b.taker.unwatch != nil { // what is seen, the test says
		b.taker.unwatch()
		b.taker.unwatch = nil
	}
	b.write("a.json", `{"to":"j@to.example"}`)
	b.write("a.eml", plain)
	b.taker.seen("a.eml", filedoor.Arrived)
	b.taker.pass()
	b.expect("a@from.example → j@to.example: " + plain)
	b.write("b.eml", plain)
	b.taker.seen("b.eml", filedoor.Arrived)
	b.taker.seen("b.eml", filedoor.Changed)
	b.taker.pass()
	if n := len(b.in.taken); n != 1 {
		t.Error("taken while somebody writes to it")
	}
}

func TestAFileThatChangesWhileItIsReadWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	path := b.write("a.eml", plain)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b.in.while = func() { f.WriteString("more\n") }
	b.passes()
	b.expect()
	b.in.while = nil
	b.taker.pass()
	b.expect("a@from.example → b@to.example c@to.example: " + plain + "more\n")
}

func TestWhatMustWaitStays(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	full := &submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 1}}}
	b.write("a.eml", plain)
	b.write("a.json", "{}")
	b.in.said = full
	if !b.passes() || b.names(".") != "a.eml a.json" {
		t.Fatalf("left %q", b.names("."))
	}
	b.in.said, b.in.says = nil, full
	if !b.passes() || b.names(".") != "" || b.names("bad") != "" {
		t.Fatalf("left %q, bad %q", b.names("."), b.names("bad"))
	}
	id := strings.Fields(b.names(takenRoom))[0][:mta.IDLength]
	b.in.says, b.in.tells = nil, full
	b.again(nil)
	if !b.passes() {
		t.Fatal("not short")
	}
	b.in.tells = nil
	if b.passes() || len(b.in.taken) != 1 || b.names(takenRoom) != "" {
		t.Fatalf("%q, left %q", b.in.all(), b.names(takenRoom))
	}
	for got := range b.in.taken {
		if got.String() != id {
			t.Errorf("%s was %s", got, id)
		}
	}
	for _, b.in.says = range []error{
		&submit.Refusal{Reply: mta.Reply{Code: 552}},
		&submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 5, Detail: 3}}}, // too many recipients
	} {
		b.write("b.eml", plain)
		if b.passes() || !strings.Contains(b.names("bad"), "b.eml") || b.names(takenRoom) != "" {
			t.Errorf("%v: bad %q", b.in.says, b.names("bad"))
		}
	}
}

// A bug that one file brings out ends neither the daemon nor the others' mail,
// and the file is not lost.
func TestAPanicIsOneFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	b.write("a.eml", plain)
	b.in.while = func() { panic("a bug") }
	b.passes()
	if n := len(strings.Fields(b.names(takenRoom))); n != 1 {
		t.Fatalf("%d in the room", n)
	}
	b.in.while = nil
	b.passes()
	b.expect("a@from.example → b@to.example c@to.example: " + plain)
}

func TestDone(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.Done = "done" })
	for range 2 {
		b.write("a.eml", plain)
		b.write("a.json", "{}")
		b.passes()
	}
	names := strings.Fields(b.names("done"))
	if len(names) != 4 || !strings.HasSuffix(names[0], "-a.eml") || !strings.HasSuffix(names[1], "-a.json") {
		t.Fatalf("%q", names)
	}
	for id := range b.in.taken {
		if b.read("done/"+id.String()+"-a.eml") != plain {
			t.Errorf("%s", id)
		}
	}
}

func TestAUserIsHeldToItsRights(t *testing.T) {
	t.Parallel()
	book := account.NewBook(nil)
	book.Configure([]account.User{{Name: "erp", From: account.Senders{"*@from.example"}, Stream: "invoices", Rate: account.Rate{Messages: 3, Per: 24 * time.Hour}}})
	b := newBench(t, func(o *Options) {
		o.User = func() *account.User { return book.User("erp") }
		o.Stream = "other"
	})
	b.write("a-good.eml", plain)
	b.write("b-other.eml", "X-Sender: x@other.example\nX-Receiver: b@to.example\n"+plain)
	b.write("c-stream.eml", plain)
	b.write("c-stream.json", `{"stream":"alerts"}`)
	b.write("d-rate.eml", plain)
	if !b.passes() || b.names(".") != "d-rate.eml" {
		t.Errorf("left %q", b.names("."))
	}
	b.expect("a@from.example → b@to.example c@to.example: " + plain)
	for _, d := range b.in.taken {
		if d.r.Stream != "invoices" || d.r.User == nil || d.r.Origin.User != "erp" {
			t.Errorf("%+v", d.r)
		}
	}
	if !strings.Contains(b.read("bad/b-other.reason"), "erp may not send from x@other.example") || !strings.Contains(b.read("bad/c-stream.reason"), "stream") {
		t.Error(b.names("bad"))
	}
}

func TestFromIsHeldWithoutAUser(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *Options) { o.From = account.Senders{"*@from.example"} })
	b.write("a.eml", plain)
	b.write("b.eml", "X-Sender: x@other.example\nX-Receiver: b@to.example\n"+plain)
	b.write("c.eml", "X-Sender: <>\nX-Receiver: b@to.example\n\n")
	b.passes()
	b.expect(" → b@to.example: \n", "a@from.example → b@to.example c@to.example: "+plain)
	if reason := b.read("bad/b.reason"); !strings.Contains(reason, "this directory may not send from x@other.example (allowed: *@from.example)") {
		t.Error(reason)
	}
}

// More files than are remembered are taken in one go all the same: those that
// find no room at first do when others are taken.
func TestMoreFilesThanAreRemembered(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(".")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	l := newLooks(now)
	var names []string
	for i := range 3 * maxLooks {
		names = append(names, fmt.Sprint(i))
	}
	for passes := 0; len(names) > 0; passes++ {
		if passes > 3 {
			t.Fatalf("%d are left", len(names))
		}
		l.begin()
		names = slices.DeleteFunc(names, func(name string) bool {
			if !l.settled(name, info, now, time.Second) {
				return false
			}
			l.drop(name)
			return true
		})
		if len(l.now) > maxLooks {
			t.Fatalf("%d remembered", len(l.now))
		}
		now = now.Add(time.Second)
	}
}

func TestThousandsOfFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	const n = 3000
	for i := range n {
		b.write(fmt.Sprintf("%d.eml", i), plain)
	}
	b.passes()
	if len(b.in.taken) != n || b.names(".") != "" {
		t.Errorf("%d taken, left %d", len(b.in.taken), len(strings.Fields(b.names("."))))
	}
}

// A crash after any step leaves a message that is taken once, and with the
// envelope that stood beside it.
func TestCrashesBetweenRenames(t *testing.T) {
	t.Parallel()
	id := mta.NewID(time.Now(), [10]byte{1})
	taken := func(name string) string { return filepath.Join(takenRoom, takenName(id, name)) }
	for name, c := range map[string]struct {
		files map[string]string
		want  string // the recipient; empty: taken before
		bad   string
	}{
		"message staged":         {map[string]string{taken("a.eml") + "~": plain, "a.json": `{"to":"j@to.example"}`}, "j@to.example", ""},
		"envelope moved":         {map[string]string{taken("a.eml") + "~": plain, taken("a.json"): `{"to":"j@to.example"}`}, "j@to.example", ""},
		"taken over":             {map[string]string{taken("a.eml"): plain, taken("a.json"): `{"to":"j@to.example"}`}, "j@to.example", ""},
		"without an envelope":    {map[string]string{taken("a.eml"): plain, "a.json": `{"to":"j@to.example"}`}, "b@to.example c@to.example", ""},
		"message removed":        {map[string]string{taken("a.json"): `{"to":"j@to.example"}`}, "", ""},
		"reason written":         {map[string]string{taken("a.eml") + "~": "x", taken("a.json"): "{}", "bad/a.reason": "y"}, "", "a.eml a.json a.reason"},
		"bad envelope moved":     {map[string]string{taken("a.eml") + "~": "x", "bad/a.json": "{}", "bad/a.reason": "y"}, "", "a.eml a.json a.reason"},
		"envelope taken back":    {map[string]string{taken("a.eml") + "~": plain}, "", "a.eml a.reason"},
		"a new one of that name": {map[string]string{taken("a.eml"): plain, "bad/a.eml": "z"}, "b@to.example c@to.example", "a.eml"},
	} {
		b := newBench(t, nil)
		for path, content := range c.files {
			b.write(path, content)
		}
		b.again(nil)
		b.taker.pass()
		if c.want == "" {
			b.expect()
		} else {
			b.expect("a@from.example → " + c.want + ": " + plain)
		}
		if b.names("bad") != c.bad || b.names(takenRoom) != "" {
			t.Errorf("%s: bad %q, left %q", name, b.names("bad"), b.names(takenRoom))
		}
	}
	// The machine died between acceptance and removal.
	b := newBench(t, nil)
	b.write("a.eml", plain)
	b.passes()
	for id := range b.in.taken {
		b.write(filepath.Join(takenRoom, takenName(id, "a.eml")), plain)
	}
	b.in.tells = errors.New("must not be asked")
	b.again(nil)
	if b.passes() || len(b.in.taken) != 1 || b.names(takenRoom) != "" {
		t.Errorf("%q, left %q", b.in.all(), b.names(takenRoom))
	}
}

func TestDirectoriesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(dir string) error{
		"writable by all": func(dir string) error { return os.Chmod(dir, 0o777) },
		"no directory":    func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"room is a file": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "bad")), os.WriteFile(filepath.Join(dir, "bad"), nil, 0o600))
		},
		"private room is open": func(dir string) error { return os.Chmod(filepath.Join(dir, takenRoom), 0o770) },
	} {
		b := newBench(t, nil)
		if err := change(b.dir); err != nil {
			t.Fatal(err)
		}
		if err := b.taker.Prepare(); !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBench(t, nil)
	if err := os.Chmod(b.dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := b.taker.Prepare(); err != nil {
		t.Error(err)
	}
}

// The watch, or the polling in its place, sees what comes while it runs, also in
// a directory that was made anew; Stop waits for it (goleak looks).
func TestTheTakerSeesWhatComes(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Poll, o.Quiet, o.Now = time.Second, time.Millisecond, nil })
	place := func(name string) {
		if err := os.Rename(b.write(name+".tmp", plain), filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	place("before.eml")
	b.taker.Start(t.Context())
	<-b.in.began
	place("after.eml")
	<-b.in.began
	if err := os.Rename(b.dir, b.dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	place("anew.eml")
	<-b.in.began
	if err := b.taker.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(b.in.taken) != 3 || b.names(".") != "" {
		t.Errorf("%q, left %q", b.in.all(), b.names("."))
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
