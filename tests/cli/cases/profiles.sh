sintra profiles
sintra profiles raspberry-pi-5-8gb
sintra profiles nowhere
