package spool

import (
	"context"
	"time"

	"mailout/internal/mta"
)

// Reservation notes that a request, which its client may repeat, became a
// message. It is stored in the commit that stores the message, so that there is
// never one without the other.
type Reservation struct {
	Key     [16]byte  // whose request it is and by which name; a hash
	Part    uint32    // number of the message in the request
	Request [16]byte  // what was asked; a hash
	Message mta.ID    // set by Put
	Made    time.Time // second precision
}

// ReservationLife is how long reservations are kept; Prune removes those that
// are older.
const ReservationLife = 24 * time.Hour

// Reservations finds them.
type Reservations interface {
	// Reserved gives the reservations with the key that are younger than
	// ReservationLife at the time now, in no promised order. What it gives is on
	// stable storage.
	Reserved(ctx context.Context, key [16]byte, now time.Time) ([]Reservation, error)
}
