./quorate operator init > keys.txt                      # five shares, threshold three, and the first root token
share() { sed -n "s/^Unseal Key $1: //p" keys.txt; }
for i in 1 2 3; do share $i | ./quorate operator unseal -; done
./quorate status
sed -n 's/^Initial Root Token: //p' keys.txt | ./quorate login -
./quorate token revoke -self
./quorate operator generate-root -init -format=json > attempt.json   # nonce, and the one-time password (OTP) for whoever gets the token
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" $2; }
nonce=$(field nonce attempt.json)
share 1 | ./quorate operator generate-root -nonce=$nonce -
share 4 | ./quorate operator generate-root -nonce=$nonce -
share 5 | ./quorate operator generate-root -nonce=$nonce -format=json - > done.json
./quorate operator generate-root -decode=$(field encoded_token done.json) -otp=$(field otp attempt.json) > token.txt
./quorate login - < token.txt
./quorate token lookup
A=http://127.0.0.1:8200/v1/sys/generate-root
curl -s --request POST $A/attempt > attempt.json
nonce=$(field nonce attempt.json)
for i in 2 3 4; do
  echo "{\"key\": \"$(share $i)\", \"nonce\": \"$nonce\"}" | curl -s --request POST --data @- $A/update > done.json
done
./quorate operator generate-root -decode=$(field encoded_token done.json) -otp=$(field otp attempt.json) > token.txt
curl -s --header "X-Vault-Token: $(cat token.txt)" http://127.0.0.1:8200/v1/auth/token/lookup-self
A=http://127.0.0.1:8200/v1/sys/root-generation
mine=$(./quorate operator generate-root -generate-otp)      # any long random text will do
curl -s --request PUT --header "X-Vault-Token: $mine" $A/attempt > attempt.json
nonce=$(field nonce attempt.json)
for i in 1 2 3; do
  echo "{\"key\": \"$(share $i)\", \"nonce\": \"$nonce\"}" | curl -s --request PUT --data @- $A/update
done
curl -s --header "X-Vault-Token: $mine" http://127.0.0.1:8200/v1/auth/token/lookup-self
