package anystore

import (
	"context"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return New(t) })
}

func TestAgainIsTheSameData(t *testing.T) {
	first := New(t)
	second := Again(t, first)
	third := Again(t, second)
	err := second.Update(context.Background(), func(tx store.Tx) error { return tx.Put("k", []byte("v")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	for _, st := range []store.Store{first, third} {
		err := st.View(context.Background(), func(r store.Reader) error {
			values, err := r.Get("k")
			if err == nil && string(values[0]) != "v" {
				t.Errorf("the other one reads %q", values[0])
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	err = New(t).View(context.Background(), func(r store.Reader) error {
		for e := range r.Scan("", "") {
			t.Errorf("a new store holds %q", e.Key)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv(Engine, "rerun")
	runs := 0
	if err := New(t).View(context.Background(), func(store.Reader) error { runs++; return nil }); err != nil || runs != 2 {
		t.Errorf("over %s=rerun a function runs %d times: %v", Engine, runs, err)
	}
}
