package queue

// ordered is what a heap holds: a pointer that can be compared and remembers
// its place.
type ordered[T any] interface {
	comparable
	before(T) bool
	place() *int32
}

// heap is a binary heap of pointers whose elements know their index, so that
// any of them can be moved or removed. An element not in the heap has place -1.
type heap[T ordered[T]] []T

func (h heap[T]) top() T { return h[0] }

func (h *heap[T]) push(x T) {
	*h = append(*h, x)
	*x.place() = int32(len(*h) - 1)
	h.up(len(*h) - 1)
}

func (h *heap[T]) pop() T {
	x := (*h)[0]
	h.remove(x)
	return x
}

func (h *heap[T]) remove(x T) {
	var none T
	i := int(*x.place())
	last := len(*h) - 1
	if i != last {
		h.swap(i, last)
	}
	(*h)[last] = none
	*h = (*h)[:last]
	*x.place() = -1
	if i != last {
		h.fix(i)
	}
}

// fix moves the element at i to where it belongs after its order changed.
func (h heap[T]) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h heap[T]) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].place() = int32(i)
	*h[j].place() = int32(j)
}

func (h heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h heap[T]) down(i int) bool {
	start := i
	for {
		least := 2*i + 1
		if least >= len(h) {
			break
		}
		if right := least + 1; right < len(h) && h[right].before(h[least]) {
			least = right
		}
		if !h[least].before(h[i]) {
			break
		}
		h.swap(i, least)
		i = least
	}
	return i > start
}

// ring is a first-in first-out queue that reuses its array.
type ring[T any] struct {
	buf  []T
	head int
	n    int
}

func (r *ring[T]) len() int { return r.n }

func (r *ring[T]) push(x T) {
	if r.n == len(r.buf) {
		bigger := make([]T, max(4, 2*len(r.buf)))
		for i := range r.n {
			bigger[i] = r.buf[(r.head+i)%len(r.buf)]
		}
		r.buf, r.head = bigger, 0
	}
	r.buf[(r.head+r.n)%len(r.buf)] = x
	r.n++
}

func (r *ring[T]) pop() T {
	var none T
	x := r.buf[r.head]
	r.buf[r.head] = none
	r.head = (r.head + 1) % len(r.buf)
	r.shrink()
	return x
}

// popLast takes the one that was pushed last.
func (r *ring[T]) popLast() T {
	var none T
	i := (r.head + r.n - 1) % len(r.buf)
	x := r.buf[i]
	r.buf[i] = none
	r.shrink()
	return x
}

func (r *ring[T]) shrink() {
	r.n--
	if r.n == 0 && len(r.buf) > 1024 {
		r.buf, r.head = nil, 0 // a burst does not keep its memory
	}
}

// at gives the i-th element from the front.
func (r *ring[T]) at(i int) T { return r.buf[(r.head+i)%len(r.buf)] }

// drop removes the elements for which gone is true and keeps the order of the
// others.
func (r *ring[T]) drop(gone func(T) bool) {
	for range r.n {
		if x := r.pop(); !gone(x) {
			r.push(x)
		}
	}
}
