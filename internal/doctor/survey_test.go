package doctor

import (
	"context"
	"net/netip"
	"testing"
)

// TestSurveySharesWhatItAsked: parts of one survey ask the same question once,
// and run only the checks that are wanted.
func TestSurveySharesWhatItAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := NewSurvey(goodIdentity(), w.world(), Options{})
	s.Examine(context.Background(), "name.form") // does not look at the faces
	faces := s.Faces(context.Background())
	if len(faces) != 1 || faces[0].Visible != netip.MustParseAddr("192.0.2.10") || faces[0].Agree == 0 || faces[0].Said == "" || s.Routed() {
		t.Fatalf("%+v", faces)
	}
	first := s.Examine(context.Background(), "address.record")
	if find(t, first, "address.record", "").Status != Pass || len(first.Checks) != 1 {
		t.Fatalf("%+v", first)
	}
	asked := w.askedRecursive()
	if again := s.Examine(context.Background(), "address.record"); len(again.Checks) != 1 || w.askedRecursive() != asked {
		t.Errorf("asked %d, then %d: %+v", asked, w.askedRecursive(), again)
	}
	if other := s.Examine(context.Background(), "name.form"); len(other.Checks) != 1 || other.Checks[0].ID != "name.form" {
		t.Errorf("%+v", other)
	}
}

func TestSurveyReverseNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "11.2.0.192.in-addr.arpa. 300 PTR dsl-192-0-2-11.provider.example.")
	s := NewSurvey(goodIdentity(), w.world(), Options{})
	ours := s.ReverseNames(context.Background(), netip.MustParseAddr("192.0.2.10"))
	if len(ours) != 1 || ours[0] != (ReverseName{Name: "mailout.ofc.widget.com", Confirmed: true}) {
		t.Errorf("%+v", ours)
	}
	made := s.ReverseNames(context.Background(), netip.MustParseAddr("192.0.2.11"))
	if len(made) != 1 || made[0].Confirmed || made[0].Generic == "" {
		t.Errorf("%+v", made)
	}
	if none := s.ReverseNames(context.Background(), netip.MustParseAddr("192.0.2.12")); none != nil {
		t.Errorf("%+v", none)
	}
}

// askedRecursive counts the questions to the configured server.
func (w *fakeWorld) askedRecursive() int {
	n := 0
	for _, p := range w.asked {
		if p.Server == recursive {
			n++
		}
	}
	return n
}
