package seal

import (
	"fmt"
	"testing"
)

func BenchmarkUnseal(b *testing.B) {
	for _, q := range []struct{ threshold, n int }{{3, 5}, {128, 255}} {
		b.Run(fmt.Sprintf("%d_of_%d", q.threshold, q.n), func(b *testing.B) {
			c := initCluster(b, newStore(), q.n, q.threshold)
			for b.Loop() {
				u := c.unsealer()
				for slot := 1; slot <= q.threshold; slot++ {
					_, opened, err := u.Submit(ctx, c.share(slot), false, yes, nil)
					if err != nil {
						b.Fatal(err)
					}
					if opened != nil {
						opened.Barrier.Close()
					}
				}
			}
		})
	}
}

func BenchmarkInit(b *testing.B) {
	for _, q := range []struct{ threshold, n int }{{3, 5}, {128, 255}} {
		b.Run(fmt.Sprintf("%d_of_%d", q.threshold, q.n), func(b *testing.B) {
			for b.Loop() {
				initCluster(b, newStore(), q.n, q.threshold)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	c := initCluster(b, newStore(), 5, 3)
	rec := c.record(b)
	share := c.share(1)
	for b.Loop() {
		if _, _, err := rec.Check(share); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMakeGeneration(b *testing.B) {
	for _, q := range []struct{ threshold, n int }{{3, 5}, {128, 255}} {
		b.Run(fmt.Sprintf("%d_of_%d", q.threshold, q.n), func(b *testing.B) {
			rec := initCluster(b, newStore(), 5, 3).record(b)
			for b.Loop() {
				g, err := MakeGeneration(nil, rec, GenerationParams{Shares: q.n, Threshold: q.threshold})
				if err != nil {
					b.Fatal(err)
				}
				g.Wipe()
			}
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	c := initCluster(b, newStore(), 255, 128)
	o := c.mustOpenBy(b, c.first(128))
	for b.Loop() {
		b.StopTimer()
		g, _ := makeNext(b, c.record(b), 255, 128)
		b.StartTimer()
		must(b, o, prepare(g))
		must(b, o, commit(false))
	}
}
