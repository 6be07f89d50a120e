"""For lm-evaluation-harness: LaMP as its tasks (`lamp`) and personaplug as its model (`adapter`)."""
