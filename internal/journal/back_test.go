package journal

import (
	"testing"

	"mailout/internal/mta"
)

// TestWhatCameBack: mail that came back has failed, whether the report or the
// delivery was recorded first; the record of a report of ours changes nothing,
// nor does a complaint.
func TestWhatCameBack(t *testing.T) {
	t.Parallel()
	event := func(e mta.Event) *mta.Record { return &mta.Record{Event: e} }
	back := &mta.Record{Event: mta.EventBounced, Class: "permanent", Reason: "came back", Report: mta.ID{1}}
	told := &mta.Record{Event: mta.EventBounced, Report: mta.ID{1}}
	for _, c := range []struct {
		records []*mta.Record
		want    mta.State
		last    *mta.Record
	}{
		{[]*mta.Record{event(mta.EventAccepted), event(mta.EventDelivered), back}, mta.Failed, back},
		{[]*mta.Record{event(mta.EventAccepted), back, event(mta.EventRelayed)}, mta.Failed, back},
		{[]*mta.Record{event(mta.EventAccepted), event(mta.EventRelayed), back, event(mta.EventComplained)}, mta.Failed, back},
		{[]*mta.Record{event(mta.EventAccepted), event(mta.EventDelivered), told}, mta.Delivered, nil},
		{[]*mta.Record{event(mta.EventAccepted), event(mta.EventExpired), told, back}, mta.Expired, nil},
		{[]*mta.Record{event(mta.EventAccepted), event(mta.EventDelivered), event(mta.EventComplained)}, mta.Delivered, nil},
		{[]*mta.Record{event(mta.EventAccepted), event(mta.EventSuppressed), told}, mta.Failed, nil},
		{[]*mta.Record{event(mta.EventAccepted), back}, mta.Queued, nil},
	} {
		var p Recipient
		for _, r := range c.records {
			p.follow(r)
		}
		if p.state != c.want || c.last != nil && p.last != c.last {
			t.Errorf("%v: %s, %+v", c.records, p.state, p.last)
		}
	}
}
