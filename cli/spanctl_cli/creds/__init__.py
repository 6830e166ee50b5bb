"""How ``spanctl creds`` reaches credentials, and what is printed of them: never the material."""
