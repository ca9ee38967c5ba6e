package drop

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// intake is one that keeps what it takes, and takes an ID once.
type intake struct {
	mu    sync.Mutex
	taken map[mta.ID]string
	users map[mta.ID]string
	says  error // of Begin
	tells error // of Commit
	began chan struct{}
}

func newIntake() *intake {
	return &intake{taken: map[mta.ID]string{}, users: map[mta.ID]string{}, began: make(chan struct{}, 1000)}
}

func (in *intake) Check(context.Context, *submit.Request) error { return nil }

func (in *intake) Begin(_ context.Context, r *submit.Request) (submit.Draft, error) {
	defer func() { in.began <- struct{}{} }()
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, taken := in.taken[r.ID]; taken {
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
	d.in.taken[d.r.ID] = d.String()
	d.in.users[d.r.ID] = d.r.Origin.User
	return d.r.ID, nil
}

func (d *draft) Abort() {}

func testID(n byte) mta.ID { return mta.NewID(time.UnixMilli(1e12), [10]byte{9: n}) }

func testEntry(n byte) *Entry {
	return NewEntry(&submit.Request{
		ID: testID(n), Stream: "s", Origin: mta.Origin{User: "forged"},
		Envelope:   mta.Envelope{Sender: "a@example.com", Ret: mta.RetHeaders, EnvID: "x y", Body8Bit: true},
		Recipients: []mta.Recipient{{Address: "b@example.net", ORcpt: "rfc822;B+@example.net", Notify: mta.NotifySuccess | mta.NotifyDelay}},
	})
}

func newFolder(t *testing.T) Folder {
	t.Helper()
	f := Folder(filepath.Join(t.TempDir(), "drop"))
	if err := f.Prepare(); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f Folder) put(t *testing.T, e *Entry, content string) string {
	t.Helper()
	if err := f.Put(e, strings.NewReader(content), 0); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(f.fresh(), e.ID.String())
}

func (f Folder) names(t *testing.T, room string) string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(string(f), room))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// onePass is a taker that has looked at every file once.
func onePass(f Folder, in *intake) (*Taker, bool) {
	t := NewTaker(Options{Folder: f, Intake: in})
	t.base, t.abandon = context.WithCancel(context.Background())
	return t, t.pass()
}

func TestWhatIsPutIsTakenOnce(t *testing.T) {
	t.Parallel()
	f, in := newFolder(t), newIntake()
	path := f.put(t, testEntry(1), "Subject: x\n\n.\ntext")
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if n, err := f.Count(); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, ok := onePass(f, in); !ok || in.taken[testID(1)] != "Subject: x\n\n.\ntext" || f.names(t, "new") != "" {
		t.Fatalf("%v: %q, left %q", ok, in.taken, f.names(t, "new"))
	}
	if in.users[testID(1)] == "forged" {
		t.Error("the file's owner is who the file says")
	}
	// The machine died between acceptance and removal.
	in.tells = errors.New("must not be asked")
	if err := os.WriteFile(path, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := onePass(f, in); !ok || f.names(t, "new") != "" || f.names(t, "bad") != "" {
		t.Errorf("%v: left %q, bad %q", ok, f.names(t, "new"), f.names(t, "bad"))
	}
}

func TestEntriesAreReadAsWritten(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if _, err := testEntry(1).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	r, _, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	rcpt := r.Recipients[0]
	if r.ID != testID(1) || r.Stream != "s" || r.Envelope.Sender != "a@example.com" || r.Envelope.Ret != mta.RetHeaders || r.Envelope.EnvID != "x y" ||
		!r.Envelope.Body8Bit || rcpt.Address != "b@example.net" || rcpt.ORcpt != "rfc822;B+@example.net" || rcpt.Notify != mta.NotifySuccess|mta.NotifyDelay {
		t.Errorf("%+v", r)
	}
}

// TestHostileFilesAreMovedAside: whoever may write into the folder may write
// anything; the daemon's other mail goes on.
func TestHostileFilesAreMovedAside(t *testing.T) {
	t.Parallel()
	f, in := newFolder(t), newIntake()
	name := func(n byte) string { return filepath.Join(f.fresh(), testID(n).String()) }
	line := func(change func(*Entry)) string {
		e := testEntry(99)
		change(e)
		var b bytes.Buffer
		if _, err := e.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(line(func(e *Entry) { e.ID = testID(21) })), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(secret, name(20)), os.Link(secret, name(21)), os.Mkdir(name(22), 0o700)); err != nil {
		t.Fatal(err)
	}
	for i, content := range []string{
		"", "{", "{}\n", "null\n", "no JSON\n", line(func(e *Entry) { e.Version = 2 }), line(func(*Entry) {}), // the ID is another's
		strings.Repeat("x", maxLine+1), `{"version":1,"unknown":2}` + "\n",
		strings.Replace(line(func(e *Entry) { e.ID = testID(9); e.Recipients[0].Address = "x@example.net" }), "x@", "\xff@", 1),
	} {
		if err := os.WriteFile(name(byte(i)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, change := range []func(*Entry){
		func(e *Entry) { e.Sender = "no address" }, func(e *Entry) { e.Sender = "a@example.com\r\nX: y" },
		func(e *Entry) { e.Recipients[0].Address = "root" }, func(e *Entry) { e.Recipients[0].Address = "-x@example.net" },
		func(e *Entry) { e.Recipients[0].ORcpt = "x\r\nRCPT" }, func(e *Entry) { e.Recipients[0].Notify = 64 },
		func(e *Entry) { e.Ret = "some" }, func(e *Entry) { e.EnvID = "a\nb" },
	} {
		id := testID(byte(30 + i))
		content := line(func(e *Entry) { e.ID = id; change(e) })
		if err := os.WriteFile(name(byte(30+i)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.fresh(), "stray\n\x1b[2J"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.put(t, testEntry(50), "good")
	if _, ok := onePass(f, in); !ok || len(in.taken) != 1 || in.taken[testID(50)] != "good" {
		t.Errorf("%v: taken %q", ok, in.taken)
	}
	if left := f.names(t, "new"); left != "" {
		t.Errorf("left: %s", left)
	}
	bad := f.names(t, "bad")
	if n := strings.Count(bad, ".reason"); n != 22 || len(strings.Fields(bad)) != 2*n {
		t.Errorf("%d reasons: %s", n, bad)
	}
	if _, err := os.Stat(secret); err != nil {
		t.Error(err)
	}
}

func TestARefusedMessageIsReportedAndMovedAside(t *testing.T) {
	t.Parallel()
	f, in := newFolder(t), newIntake()
	f.put(t, testEntry(1), "x")
	tk := NewTaker(Options{Folder: f, Intake: in})
	tk.base = t.Context()
	for _, in.says = range []error{
		&submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 1}}},
		&submit.Refusal{Reply: mta.Reply{Code: 554}},
	} {
		var told []mta.ID
		cannot := errors.New("cannot tell")
		tk.opts.Report = func(_ context.Context, r *submit.Request, _ *submit.Refusal) error {
			told = append(told, r.ID)
			return cannot
		}
		if tk.pass() || f.names(t, "bad") != "" || f.names(t, "new") == "" {
			t.Fatalf("%v: not kept", in.says)
		}
		if final := in.says.(*submit.Refusal).Reply.Code > 500; final != (len(told) == 1) {
			t.Fatalf("%v: told %v", in.says, told)
		}
		cannot = nil
	}
	tk.opts.Report = func(context.Context, *submit.Request, *submit.Refusal) error { return nil }
	if !tk.pass() || f.names(t, "new") != "" || !strings.Contains(f.names(t, "bad"), testID(1).String()+".reason") {
		t.Errorf("new %q, bad %q", f.names(t, "new"), f.names(t, "bad"))
	}
}

func TestTooManyRecipientsDoNotWaitForever(t *testing.T) {
	t.Parallel()
	f, in := newFolder(t), newIntake()
	f.put(t, testEntry(1), "x")
	in.says = &submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 5, Detail: 3}}}
	if _, ok := onePass(f, in); !ok || f.names(t, "new") != "" {
		t.Errorf("%v, left %q", ok, f.names(t, "new"))
	}
}

func TestHalfWrittenFilesAreLeftAloneForADay(t *testing.T) {
	t.Parallel()
	f, in := newFolder(t), newIntake()
	for name, age := range map[string]time.Duration{".young": time.Hour, ".old": 25 * time.Hour} {
		path := filepath.Join(f.fresh(), name)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := onePass(f, in); !ok || f.names(t, "new") != ".young" {
		t.Errorf("left %q", f.names(t, "new"))
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the program died") }

func TestPutLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	if err := f.Put(testEntry(1), failing{}, 0); err == nil || f.names(t, "new") != "" {
		t.Errorf("%v, left %q", err, f.names(t, "new"))
	}
	if err := f.Put(testEntry(1), strings.NewReader("x"), 1<<62); !errors.Is(err, ErrLittleSpace) || f.names(t, "new") != "" {
		t.Errorf("%v, left %q", err, f.names(t, "new"))
	}
	if err := Folder(filepath.Join(string(f), "none")).Put(testEntry(1), strings.NewReader(""), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestPrepareRefusesAnOpenFolder(t *testing.T) {
	t.Parallel()
	for room, mode := range map[string]fs.FileMode{"new": freshMode | 0o004, "bad": 0o750} {
		f := newFolder(t)
		if err := f.Prepare(); err != nil {
			t.Fatalf("a second time: %v", err)
		}
		if err := os.Chmod(filepath.Join(string(f), room), mode); err != nil {
			t.Fatal(err)
		}
		if err := f.Prepare(); !errors.Is(err, ErrFolder) {
			t.Errorf("%s %v: %v", room, mode, err)
		}
	}
	f := newFolder(t)
	if err := os.Chmod(f.fresh(), 0o733); err != nil {
		t.Fatal(err)
	}
	if err := f.Prepare(); !errors.Is(err, ErrFolder) {
		t.Errorf("not sticky: %v", err)
	}
	if err := errors.Join(os.RemoveAll(f.bad()), os.Symlink("/tmp", f.bad()), os.Chmod(f.fresh(), freshMode)); err != nil {
		t.Fatal(err)
	}
	if err := f.Prepare(); !errors.Is(err, ErrFolder) {
		t.Errorf("a link: %v", err)
	}
}

// The watch, or the polling in its place, sees what comes while it runs; Stop
// waits for it (goleak looks).
func TestTheTakerSeesWhatComes(t *testing.T) {
	f, in := newFolder(t), newIntake()
	f.put(t, testEntry(1), "before")
	tk := NewTaker(Options{Folder: f, Intake: in, Poll: time.Hour})
	if err := tk.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-in.began
	f.put(t, testEntry(2), "after")
	<-in.began
	if err := tk.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(in.taken) != 2 || f.names(t, "new") != "" {
		t.Errorf("%q, left %q", in.taken, f.names(t, "new"))
	}
}

// Whatever stands in a file is read as an entry that writes the same again, or
// refused.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if _, err := testEntry(1).WriteTo(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("{}\nx"))
	f.Add([]byte(`{"version":1,"id":"01ARYZ6S410000000000000000","sender":"","recipients":[{"address":"\"a b\"@[192.0.2.1]"}]}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, _, err := Read(bytes.NewReader(in))
		if err != nil {
			if !errors.Is(err, ErrForm) {
				t.Fatal(err)
			}
			return
		}
		var again bytes.Buffer
		if _, err := NewEntry(r).WriteTo(&again); err != nil {
			t.Fatal(err)
		}
		second, _, err := Read(&again)
		if err != nil || second.Envelope != r.Envelope || len(second.Recipients) != len(r.Recipients) {
			t.Fatalf("%v: %+v, then %+v", err, r, second)
		}
	})
}

// A file is opened to the daemon's group where the daemon needs that, and never
// to everybody; a folder whose files the daemon could not read is refused.
func TestOnlyTheDaemonReadsWhatOthersPut(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	const other = 12345
	f := newFolder(t)
	if err := errors.Join(os.Chown(f.fresh(), other, other), os.Chmod(f.fresh(), freshMode)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(f.put(t, testEntry(1), "x"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Chmod(f.fresh(), 0o730|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := f.Put(testEntry(2), strings.NewReader("x"), 0); !errors.Is(err, ErrFolder) || f.names(t, "new") != testID(1).String() {
		t.Errorf("without the set-group-ID bit: %v, left %q", err, f.names(t, "new"))
	}
}
