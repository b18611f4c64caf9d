-- Whether the letter about a server that was taken away left long enough ago is asked before it is destroyed.
create index letters_removed on letters (service_id, created_at desc) where kind = 'service_removed';
