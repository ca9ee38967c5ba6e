package warmup

import "time"

// The law of a day, so that a ceiling is not spent in its first minutes:
//
//   - At any moment a source may have used up to Burst at once, and of the rest
//     the part of the day that is over and one hour more: the whole ceiling may
//     be used from 23:00 on.
//   - While streams are marked "first", the others together may have used half
//     of that until noon; the half grows evenly to the whole until 20:00. What
//     the first leave is theirs then.
const (
	Burst    = 10
	ahead    = time.Hour
	evenFrom = 12 * time.Hour
	evenTo   = 20 * time.Hour
)

// paced is how much of a ceiling may have been used when past of the day is
// over.
func paced(ceiling int, past time.Duration) int {
	if ceiling <= Burst {
		return ceiling
	}
	rest := float64(ceiling-Burst) * float64(min(past+ahead, hoursADay)) / float64(hoursADay)
	return min(ceiling, Burst+int(rest))
}

// pacedOthers is the part of it for streams that are not marked first.
func pacedOthers(ceiling int, past time.Duration) int {
	all := paced(ceiling, past)
	switch {
	case past <= evenFrom:
		return all / 2
	case past >= evenTo:
		return all
	}
	share := 0.5 + 0.5*float64(past-evenFrom)/float64(evenTo-evenFrom)
	return int(float64(all) * share)
}

// soonest is the least wait after a refusal: so often a source is asked again
// for each destination, at most.
const soonest = time.Second

// when is the first moment from past on at which allowed gives want, as a part
// of the day; the end of the day when there is none. allowed never falls.
func when(want int, past time.Duration, allowed func(time.Duration) int) time.Duration {
	low, high := past, hoursADay
	if allowed(high-1) < want {
		return hoursADay
	}
	for high-low > soonest {
		if middle := low + (high-low)/2; allowed(middle) >= want {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}
