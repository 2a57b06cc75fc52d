"""The certificate of an unlearning run: what it states, who signed it, and how a stranger verifies it."""
